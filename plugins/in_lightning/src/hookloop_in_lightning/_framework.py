"""What the bridge takes from Lightning, under either of its names."""

from __future__ import annotations

from typing import Any

from hookloop.errors import PluginImportError

__all__ = ["EarlyStopping"]

try:
    from lightning.pytorch.callbacks import EarlyStopping
except ModuleNotFoundError as missing:
    try:
        from pytorch_lightning.callbacks import EarlyStopping  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        raise PluginImportError(
            f"hookloop_in_lightning needs Lightning, which cannot be imported: {missing}.",
            fix='pip install "hookloop-in-lightning[lightning]"',
        ) from missing

#: A ``lightning.Trainer``; an alias, as mypy runs where Lightning is not installed.
Trainer = Any
