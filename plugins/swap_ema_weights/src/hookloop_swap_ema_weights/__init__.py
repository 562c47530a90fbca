"""swap_ema_weights: evaluate, predict and save with the moving average of the weights."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from hookloop import Callback, hookimpl
from hookloop.errors import CapabilityError, SettingError, warn

if TYPE_CHECKING:
    from torch import nn

    from hookloop import Loop
    from hookloop_swap_ema_weights._averages import Averages

__all__ = ["SwapEMAWeights"]
__version__ = "0.1.0"

_WHO = "swap_ema_weights"


class SwapEMAWeights(Callback):
    """Keeps a moving average of the weights, and lets the model have it for evaluation.

    Args:
        swap_on_epoch: Whether the model has the averages from the end of each epoch to the
            beginning of the next, and keeps them when training ends.
        decay: Share of the old average that each update keeps, in [0, 1].
        start_step: Optimizer steps to let pass before averaging begins.
        start_epoch: Epochs to let pass before averaging begins.
        update_every: Optimizer steps from one update to the next.
        use_buffers: Whether buffers, such as the statistics of batch norms, are averaged too.
        for_checkpoints: Whether the model has the averages while others save it.

    Attributes:
        averages: The averages, None before the first update.
        swapped: Whether the model has the averages now.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    needs: ClassVar[tuple[str, ...]] = ("batch_hooks",)
    changes: ClassVar[tuple[str, ...]] = ("model",)
    # What torch's AveragedModel reads is its own count, which is on the CPU.
    per_batch: ClassVar[tuple[str, ...]] = ("reads", "allocates")

    def __init__(
        self,
        swap_on_epoch: bool = False,
        *,
        decay: float = 0.99,
        start_step: int = 0,
        start_epoch: int = 0,
        update_every: int = 1,
        use_buffers: bool = True,
        for_checkpoints: bool = False,
    ) -> None:
        if not 0 <= decay <= 1:
            message = f"{_WHO}: decay={decay} is no share of the old average."
            raise SettingError(message, fix="a number from 0 to 1, such as decay=0.99")
        for name, value, least in (
            ("start_step", start_step, 0),
            ("start_epoch", start_epoch, 0),
            ("update_every", update_every, 1),
        ):
            if not value >= least:
                raise SettingError(
                    f"{_WHO}: {name}={value} is not offered.", fix=f"{name}={least}, or more"
                )
        self.swap_on_epoch = swap_on_epoch
        self.decay = decay
        self.start_step = start_step
        self.start_epoch = start_epoch
        self.update_every = update_every
        self.use_buffers = use_buffers
        self.for_checkpoints = for_checkpoints
        if not for_checkpoints:  # None costs nothing
            self.on_batch_checkpoint = None  # type: ignore[method-assign,assignment]
            self.on_epoch_checkpoint = None  # type: ignore[method-assign,assignment]
        self.averages: Averages | None = None
        self.swapped = False
        self._run: Loop | None = None
        self._seen = 0
        self._before: list[bool] = []

    # -- hooks of training -------------------------------------------------------------------

    @hookimpl(tryfirst=True)
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.averages, self.swapped, self._before = None, False, []
        # Of this run, also while the same instance watches an evaluation inside of it.
        self._run, self._seen = self.loop, self.loop.step
        model: object = self.model
        if model is None:
            message = f"{_WHO}: {self.loop.host} was given no model, so there are no weights."
            raise CapabilityError(message, fix="pass model= to the loop")

    @hookimpl(tryfirst=True)
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._show(False)

    @hookimpl(tryfirst=True)
    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._show(False)  # after a state that was saved with the averages in the model

    @hookimpl(tryfirst=True)
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._follow_step()

    @hookimpl(tryfirst=True)
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._follow_step()
        self._show(self.swap_on_epoch)

    @hookimpl(wrapper=True)
    def on_batch_checkpoint(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> Generator[None, Any, Any]:
        self._follow_step()
        with self._showing():
            return (yield)

    @hookimpl(wrapper=True)
    def on_epoch_checkpoint(
        self, epoch: int, logs: Mapping[str, Any] | None = None
    ) -> Generator[None, Any, Any]:
        with self._showing():
            return (yield)

    @hookimpl(tryfirst=True)
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._follow_step()
        succeeded = self._run is not None and self._run.outcome in ("finished", "stopped")
        self._show(self.swap_on_epoch and succeeded)
        self._run = None

    # -- hooks of evaluation and prediction ------------------------------------------------------

    @hookimpl(tryfirst=True)
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()

    @hookimpl(trylast=True)
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._show(self._before.pop())

    @hookimpl(tryfirst=True)
    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()

    @hookimpl(trylast=True)
    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._show(self._before.pop())

    def _begin(self) -> None:
        self._before.append(self.swapped)
        self._follow_step()
        if self._run is None and not self._fits():
            warn(
                f"{_WHO} has no averages of this model, which is used as it is.\n"
                "fix: pass the instance that was in fit()",
            )
            return
        self._show(True)

    # -- inside ----------------------------------------------------------------------------------

    def _fits(self) -> bool:
        return self.averages is not None and self.averages.model is self.model

    def _follow_step(self) -> None:
        """Update the averages if the optimizer has stepped.

        Not only at the end of a batch: a window of accumulation that the end of the epoch cuts
        steps after it.
        """
        run = self._run
        if run is None or run.step == self._seen:
            return
        self._seen = run.step
        begun = run.step > self.start_step and (run.epoch or 0) >= self.start_epoch
        if not begun or run.step % self.update_every:
            return
        if self.averages is None:
            self.averages = self._new_averages(run.model)
        self.averages.update()

    def _new_averages(self, model: nn.Module) -> Averages:
        from hookloop_swap_ema_weights._averages import Averages  # imports torch

        return Averages(model, decay=self.decay, use_buffers=self.use_buffers)

    def _show(self, averages: bool) -> None:
        """Have the model show the averages, or its own weights."""
        if self.averages is not None and averages != self.swapped:
            self.averages.exchange()
            self.swapped = averages

    @contextmanager
    def _showing(self) -> Iterator[None]:
        before = self.swapped
        self._show(True)
        try:
            yield
        finally:
            self._show(before)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the averages behind with the run: they belong to its model."""
        return {**super().__getstate__(), "averages": None, "swapped": False, "_run": None}

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give what was averaged; while the model shows it, its own weights in its place."""
        averages = self.averages
        return {
            "seen": self._seen,
            "swapped": self.swapped,
            "count": averages.count if averages is not None else 0,
            "tensors": dict(averages.tensors()) if averages is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen, self.swapped = int(state["seen"]), bool(state["swapped"])
        self.averages = None
        if state["tensors"] is not None:
            self.averages = self._new_averages(self.model)
            self.averages.load(int(state["count"]), state["tensors"])
