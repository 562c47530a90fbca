"""Validation, tests and predictions, as the hooks of a run."""

from __future__ import annotations

from typing import Any

from hookloop.hosting import Run
from hookloop.logs import Logs
from hookloop.structures import size_of
from hookloop_in_lightning._framework import Trainer
from hookloop_in_lightning._loop import numbers, show
from hookloop_in_lightning._metrics import Fresh, is_number, of_epoch, of_test


class Tests:
    """One validation or test after another of a run.

    Args:
        run: Whose hooks are fired.
        trainer: Lightning's; its metrics are read.
        prefix: What the names of its metrics begin with: ``val_`` or ``test_``.
    """

    def __init__(self, run: Run, trainer: Trainer, prefix: str) -> None:
        self.run, self._trainer, self._prefix = run, trainer, prefix
        self._fresh, self._index = Fresh(), -1

    def begin(self) -> None:
        self._index = -1
        self._fresh.mark(self._trainer.callback_metrics)
        self.run.act(self.run.driver.test_begin)

    def batch_begin(self, batch: Any) -> None:
        """Count on from one loader to the next, so that each batch has a number of its own."""
        self._index += 1
        show(self.run.loop, batch)
        logs = Logs({"size": size_of(batch)})
        self.run.act(self.run.driver.test_batch_begin, self._index, logs)

    def batch_end(self, outputs: Any) -> None:
        """Report what the step returned, if that is numbers."""
        loop, logs, found = self.run.loop, self.run.loop.logs, numbers(outputs)
        loop.outputs, loop.loss = outputs, found.get("loss")
        for name, value in found.items():
            if is_number(value):
                logs[name.removeprefix(self._prefix)] = value
        self.run.act(self.run.driver.test_batch_end, self._index, logs)

    def end(self) -> dict[str, Any]:
        """Report what the module logged.

        Returns:
            That, by the names that the module gave.
        """
        found = self._fresh.since(self._trainer.callback_metrics)
        keys, logs = of_test(found, self._prefix), Logs()
        for name, value in found.items():
            logs[keys[name]] = value
        names = {key: of_epoch(name) for name, key in keys.items()}
        self.run.act(self.run.driver.test_end, logs, names)
        return found


class Predictions:
    """One prediction.

    Args:
        run: Whose hooks are fired.
    """

    def __init__(self, run: Run) -> None:
        self.run, self._index = run, -1

    def begin(self) -> None:
        self.run.act(self.run.driver.predict_begin)

    def batch_begin(self, batch: Any) -> None:
        self._index += 1
        show(self.run.loop, batch)
        logs = Logs({"size": size_of(batch)})
        self.run.act(self.run.driver.predict_batch_begin, self._index, logs)

    def batch_end(self, outputs: Any) -> None:
        loop = self.run.loop
        loop.outputs = outputs
        logs = Logs({"size": size_of(loop.inputs), "outputs": outputs})
        self.run.act(self.run.driver.predict_batch_end, self._index, logs)

    def end(self) -> None:
        self.run.act(self.run.driver.predict_end)
