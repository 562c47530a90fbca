"""hookloop in skorch: every hookloop callback, chosen by name, in a net of skorch."""

from __future__ import annotations

from hookloop.errors import PluginImportError

try:
    import skorch  # noqa: F401
except ImportError as error:
    raise PluginImportError(
        f"hookloop-in-skorch runs callbacks in skorch, which cannot be imported: {error}.",
        fix='pip install "hookloop-in-skorch[skorch]"',
    ) from error

from hookloop_in_skorch._callback import HookloopCallback

__all__ = ["HookloopCallback"]
__version__ = "0.1.0"
