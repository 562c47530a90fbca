"""in_transformers: hookloop callbacks in Hugging Face's Trainer."""

from __future__ import annotations

from hookloop.errors import PluginImportError

try:
    import transformers  # noqa: F401  (so that it is this package that says how to install it)
except ImportError as error:
    message = f"hookloop_in_transformers needs transformers, which cannot be imported: {error}."
    fix = 'pip install "hookloop-in-transformers[transformers]"'
    raise PluginImportError(message, fix=fix) from error

from hookloop_in_transformers._callback import HookloopCallback

__all__ = ["HookloopCallback"]
__version__ = "0.1.0"
