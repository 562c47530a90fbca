"""hookloop in Lightning: one callback of Lightning's that carries callbacks of hookloop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.checks import one_of
from hookloop.history import History
from hookloop.hosting import Bridge, Run
from hookloop_in_lightning._evaluation import Predictions, Tests
from hookloop_in_lightning._fit import Fit
from hookloop_in_lightning._framework import EarlyStopping, Trainer
from hookloop_in_lightning._loop import LightningLoop, about, params, prepare

__all__ = ["HookloopCallback"]
__version__ = "0.1.0"

_KIND = "HookloopCallback"
#: Only called where a callback wants to see steps: Lightning's call of a hook costs 5 microseconds.
_OF_A_STEP = ("on_before_backward", "on_before_optimizer_step")
_FORGOTTEN = "The checkpoint holds no state of these callbacks: they begin afresh."


class HookloopCallback(EarlyStopping):  # type: ignore[misc]
    """Callbacks of hookloop, in a ``lightning.Trainer``.

    It is an ``EarlyStopping`` for one reason: Lightning calls ``on_train_epoch_end`` of these, and
    of checkpoints, after the module's own, and of all others before. Nothing else of it is used.

    Args:
        callbacks: In any form in which hookloop's callbacks can be chosen.
        name: What this one's state is saved under; by default it is made of the callbacks' names.
        on_callback_error: ``"raise"``, ``"disable"``, or ``"auto"``, as for hookloop's ``fit``.

    Raises:
        HookloopError: If a callback cannot be made, or the policy is none.
    """

    def __init__(
        self, callbacks: Any = (), *, name: str | None = None, on_callback_error: str = "auto"
    ) -> None:
        super().__init__(monitor="")
        one_of("on_callback_error", on_callback_error, ("raise", "disable", "auto"))
        self._bridge = Bridge(callbacks, policy=on_callback_error)
        self._key = f"{_KIND}[{name or ', '.join(self._bridge.names)}]"
        self._fit: Fit | None = None
        self._tests: Tests | None = None
        self._predictions: Predictions | None = None

    @property
    def history(self) -> History | None:
        """The `History` of the fit under way, or of the last one."""
        return self._bridge.history

    # -- state -------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Under which key Lightning's checkpoints hold the state; no two in a trainer are alike."""
        return self._key  # made once: Lightning asks for it at every hook

    def state_dict(self) -> dict[str, Any]:
        """Give the state of the callbacks, for Lightning's checkpoints."""
        return self._bridge.state_dict(self._fit.position if self._fit is not None else (0, 0))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the fit that begins continue the one whose state this is."""
        self._bridge.load_state_dict(state_dict)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: Any, checkpoint: Mapping[str, Any]
    ) -> None:
        """Find the state of the same callbacks but for some that were added or removed since."""
        saved = checkpoint.get("callbacks", {})
        here = [one for one in trainer.callbacks if isinstance(one, HookloopCallback)]
        lost = [one for one in here if one.state_key not in saved]
        known = {one.state_key for one in here}
        left = [key for key in saved if str(key).startswith(f"{_KIND}[") and key not in known]
        if lost == [self] and len(left) == 1:
            self.load_state_dict(saved[left[0]])

    # -- training ----------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Forget what an earlier fit left; Lightning loads state after this."""
        if stage == "fit":
            self._fit = None
            self._bridge.load_state_dict({})

    def _begin(self, trainer: Trainer, module: Any) -> Fit:
        resumes = self._bridge.waiting
        run = self._bridge.begin(
            LightningLoop,
            counts=False,
            prepare=lambda loop: prepare(loop, trainer),
            params=params(trainer),
            **about(trainer, module),
        )
        self._fit = Fit(run, trainer)
        sees = self._fit.sees_steps
        for hook in _OF_A_STEP:
            setattr(self, hook, getattr(type(self), hook).__get__(self) if sees else None)
        if trainer.ckpt_path and trainer.global_step and not resumes:
            run.loop.message(_FORGOTTEN)
        return self._fit

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._begin(trainer, pl_module).begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._training.epoch_begin()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._training.batch_begin(batch, batch_idx)

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Any) -> None:
        self._training.backward(loss)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self._training.before_step(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._training.batch_end(outputs, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._training.epoch_end()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._training.end()

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Show a resumed run that has nothing left to train: Lightning does not begin it."""
        if self._fit is None and self._bridge.waiting:
            self._begin(trainer, pl_module).end()

    @property
    def _training(self) -> Fit:
        return self._fit  # type: ignore[return-value]  # Lightning has called on_train_start

    # Lightning passes over what cannot be called.
    on_before_zero_grad = on_after_backward = None

    # -- validation, tests, predictions ------------------------------------------------------------

    def _aside(self, trainer: Trainer, module: Any) -> Run:
        return self._bridge.aside(LightningLoop, **about(trainer, module))

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        if self._bridge.running:
            fit = self._training
            fit.validation_begin()
            self._tests = None if fit.hides else fit.tests
        else:
            self._tests = Tests(self._aside(trainer, pl_module), trainer, "val_")
            self._tests.begin()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        if self._bridge.running:
            self._training.validation_end()
            self._tests = None
        else:
            self._end_aside()

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._tests = Tests(self._aside(trainer, pl_module), trainer, "test_")
        self._tests.begin()

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._end_aside()

    def _end_aside(self) -> None:
        if self._tests is not None:
            self._tests.end()
            self._tests.run.close()
            self._tests = None

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._tests is not None:
            self._tests.batch_begin(batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._tests is not None:
            self._tests.batch_end(outputs)

    on_validation_batch_start = on_test_batch_start
    on_validation_batch_end = on_test_batch_end

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._predictions = Predictions(self._aside(trainer, pl_module))
        self._predictions.begin()

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._predictions is not None:
            self._predictions.batch_begin(batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._predictions is not None:
            self._predictions.batch_end(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._predictions is not None:
            self._predictions.end()
            self._predictions.run.close()
            self._predictions = None

    # -- failing -----------------------------------------------------------------------------------

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Tell the callbacks that the run ends with an exception; one of their own is told."""
        for one in (self._tests, self._predictions, self._fit):
            if one is not None:
                one.run.fail(exception)
        self._tests = self._predictions = None

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """End what Lightning left without an end, as its tuner does."""
        if stage == "fit" and self._bridge.running:
            self._training.end()
