"""Validation by an engine of its own: from the evaluator's events to the test hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Events

from hookloop_in_ignite import _numbers
from hookloop_in_ignite._run import Training


class Tests:
    """Follows the evaluator, while the trainer is inside an epoch.

    Args:
        evaluator: The engine that validates.
        trainer: The engine that trains.
        training: Gives the trainer's last run, or None before the first.
    """

    def __init__(
        self, evaluator: Any, trainer: Any, training: Callable[[], Training | None]
    ) -> None:
        self._evaluator, self._trainer, self._training = evaluator, trainer, training
        self._metrics = _numbers.Fresh(evaluator)
        self._now: Training | None = None
        self._told = False

    def handlers(self) -> dict[Any, Callable[[], None]]:
        """Give what handles which event of the evaluator."""
        return {
            Events.STARTED: self._started,
            Events.ITERATION_STARTED: self._batch_started,
            Events.ITERATION_COMPLETED: self._batch_completed,
            Events.COMPLETED: self._completed,
        }

    def _started(self) -> None:
        training = self._training()
        self._now = None
        if training is None or training.run.over:
            return
        if training.open:
            self._now = training
            self._metrics.begin()
            training.begin_test()
        elif self._trainer.last_event_name == Events.EPOCH_COMPLETED and not self._told:
            self._told = True
            training.loop.message(
                "The evaluator runs after the callbacks have seen the end of the epoch, so they "
                "never see its metrics.\nfix: attach(..., run_validation=...), or attach() after "
                "the handler that runs it"
            )

    def _batch_started(self) -> None:
        if self._now is not None:
            self._now.begin_test_batch(self._evaluator.state.batch)

    def _batch_completed(self) -> None:
        if self._now is not None:
            self._now.end_test_batch()

    def _completed(self) -> None:
        training, self._now = self._now, None
        if training is not None:
            training.end_test(self._metrics.metrics())
