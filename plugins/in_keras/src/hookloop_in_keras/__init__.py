"""hookloop in Keras 3 on torch: every hookloop callback, by name."""

from hookloop_in_keras._callback import HookloopCallback

__all__ = ["HookloopCallback"]
__version__ = "0.1.0"
