"""hookloop in Ignite: every hookloop callback, chosen by name, on a trainer of Ignite."""

from __future__ import annotations

import warnings

from hookloop.errors import PluginImportError

try:
    with warnings.catch_warnings():
        # Ignite 0.5 imports a part of torch that warns of itself, to nobody who could change it.
        warnings.simplefilter("ignore", DeprecationWarning)
        import ignite.engine  # noqa: F401
except ImportError as error:
    raise PluginImportError(
        f"hookloop-in-ignite runs callbacks in Ignite, which cannot be imported: {error}.",
        fix='pip install "hookloop-in-ignite[ignite]"',
    ) from error

from hookloop_in_ignite._attached import Attached, attach

__all__ = ["Attached", "attach"]
__version__ = "0.1.0"
