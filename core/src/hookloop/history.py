"""The two callbacks that every run has: BaseLogger averages, History remembers."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from hookloop.callback import Callback
from hookloop.hookspecs import hookimpl
from hookloop.logs import Logs
from hookloop.means import Means


class BaseLogger(Callback):
    """Averages what batches report into the logs of the epoch, weighted by batch size.

    Args:
        stateful_metrics: Names of metrics that are not averaged: their last value counts.
    """

    changes = ("logs",)

    def __init__(self, stateful_metrics: Collection[str] | None = None) -> None:
        self.stateful_metrics = frozenset(stateful_metrics or ())
        self._means = Means(self.stateful_metrics)

    def on_epoch_begin(self) -> None:
        self._means.clear()

    @hookimpl(trylast=True)  # so that what callbacks add to a batch is averaged too
    def on_train_batch_end(self, logs: Logs) -> None:
        self._means.add(logs)

    def means(self) -> dict[str, Any]:
        """Give the means of the epoch so far, unread: on an accelerator they are 0-d tensors."""
        return self._means.result()

    @hookimpl(tryfirst=True)
    def on_epoch_end(self, logs: Logs) -> None:
        found = {**self._means.result(), **dict(logs.raw_items())}
        logs.clear()
        dict.update(logs, found)  # not read here; detached already

    def state_dict(self) -> dict[str, Any]:
        return self._means.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._means.load_state_dict(state)


class History(Callback):
    """Remembers the logs of every epoch; ``fit`` returns it.

    Attributes:
        history: For each logged name its values, in the order of the epochs that reported it.
        epoch: Indices of the epochs, from 0.
        params: Those of the run.
        outcome: ``finished``, ``stopped``, ``failed`` or ``interrupted``; None while it runs.
        stop_reason: Why the run was stopped, or None.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        self.outcome: str | None = None
        self.stop_reason: str | None = None
        self._reported: dict[str, list[int]] = {}

    def on_train_begin(self) -> None:
        self.history, self.epoch, self._reported = {}, [], {}
        self.outcome = self.stop_reason = None

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        for key in logs:
            self.history.setdefault(key, []).append(logs[key])
            self._reported.setdefault(key, []).append(epoch)

    @hookimpl(trylast=True)
    def on_train_end(self) -> None:
        self.outcome, self.stop_reason = self.loop.outcome, self.loop.stop_reason

    def rows_state(self) -> dict[str, Any]:
        """Give the history as plain data, for the state of the run."""
        values = {key: [list(self._reported[key]), list(v)] for key, v in self.history.items()}
        return {"epoch": list(self.epoch), "values": values}

    def load_rows(self, rows: Mapping[str, Any]) -> None:
        """Put back what `rows_state` gave."""
        self.epoch = list(rows["epoch"])
        self.history = {key: list(values) for key, (_, values) in rows["values"].items()}
        self._reported = {key: list(epochs) for key, (epochs, _) in rows["values"].items()}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the curves: each metric with its ``val_`` twin in one panel, over the epochs.

        Args:
            path: Where to save the picture; the suffix decides the format.

        Returns:
            The matplotlib figure.

        Raises:
            HookloopError: If matplotlib is not installed.
            ArgumentError: If the suffix is that of no picture format.
        """
        from hookloop.curves import draw

        epochs = {key: [epoch + 1 for epoch in of] for key, of in self._reported.items()}
        return draw({key: (epochs[key], values) for key, values in self.history.items()}, path)
