"""One plain line an epoch: what a run shows where the progress bar is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.callback import Callback
from hookloop.hookspecs import hookimpl
from hookloop.logs import Logs


class Lines(Callback):
    """Shows the logs of each epoch, and of an evaluation, as one line of text."""

    observer = True
    name = "lines"

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.loop.message(f"epoch {epoch + 1}/{self.params['epochs']} - {numbers(logs)}")

    @hookimpl(trylast=True)
    def on_test_end(self, logs: Logs) -> None:
        if self.loop.epoch is None:  # an evaluation of its own, not the validation of an epoch
            self.loop.message(f"evaluate - {numbers(logs)}")


def numbers(logs: Mapping[str, Any]) -> str:
    """Write logged numbers for people: four significant digits, small ones with an exponent."""
    return " - ".join(f"{k}: {v:.4g}" for k, v in logs.items() if isinstance(v, int | float))
