"""attach: hookloop's callbacks on the events of a trainer of Ignite."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from hookloop.attached import of_torch
from hookloop.errors import ArgumentError, StateError
from hookloop.history import History
from hookloop.hosting import Bridge
from hookloop.models import unwrapped
from hookloop_in_ignite._evaluation import Tests
from hookloop_in_ignite._run import Training

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def attach(
    trainer: Any,
    callbacks: Any = (),
    *,
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    evaluator: Any = None,
    run_validation: Callable[[], Any] | None = None,
    loss_transform: Callable[[Any], Any] | None = None,
    loss_fn: nn.Module | None = None,
    schedulers: Sequence[Any] = (),
    on_callback_error: str = "auto",
) -> Attached:
    """Put callbacks on a trainer.

    Args:
        trainer: The engine that trains.
        callbacks: In any form in which callbacks can be chosen.
        model: The module that is trained.
        optimizer: Its optimizer, or all of them; without any there is no learning rate, and every
            batch counts as a step.
        evaluator: The engine that validates: its metrics become ``val_*``.
        run_validation: Called without arguments when the batches of an epoch are done, before the
            callbacks see its end. It runs the evaluator, or returns a mapping of numbers.
        loss_transform: Makes the loss, or a mapping with ``loss`` in it, of the trainer's output
            where that is neither.
        loss_fn: The module that computes the loss, once a batch: callbacks that look before the
            optimizer steps then find it in their logs.
        schedulers: Schedulers of torch that run, or Ignite's ``LRScheduler`` around them.
        on_callback_error: ``"raise"`` or ``"disable"`` for all callbacks; ``"auto"`` ends the run
            unless the callback only observes.

    Returns:
        What a checkpoint has to hold: ``Checkpoint(to_save={"hookloop": attached, ...})``.

    Raises:
        HookloopError: If one of the callbacks cannot be made, or an argument makes no sense.
    """
    if loss_fn is not None and not hasattr(loss_fn, "register_forward_hook"):
        message = f"attach() was given a {type(loss_fn).__name__} as loss_fn, not a module."
        raise ArgumentError(message, fix="loss_fn=nn.MSELoss(), the one that the trainer calls")
    several: Any = () if optimizer is None else optimizer
    if not isinstance(several, list | tuple):
        several = [several]
    return Attached(
        trainer,
        Bridge(callbacks, policy=on_callback_error),
        evaluator=evaluator,
        run_validation=run_validation,
        loss_fn=loss_fn,
        about={
            "model": unwrapped(model),
            "optimizers": [of_torch(one) for one in several],
            "loss_transform": loss_transform,
            "schedulers": schedulers,
            "validates": evaluator is not None or run_validation is not None,
        },
    )


class Attached:
    """Callbacks on a trainer; made by `attach`.

    Attributes:
        trainer: The engine.
        bridge: Carries the callbacks.
    """

    def __init__(
        self,
        trainer: Any,
        bridge: Bridge,
        *,
        evaluator: Any,
        run_validation: Callable[[], Any] | None,
        loss_fn: Any,
        about: Mapping[str, Any],
    ) -> None:
        self.trainer, self.bridge = trainer, bridge
        self._evaluator, self._run_validation = evaluator, run_validation
        self._loss_fn, self._about = loss_fn, about
        self._training: Training | None = None
        self._saved: Mapping[str, Any] | None = None
        self._error: BaseException | None = None
        self._watch: Any = None
        self._paused = False
        self._listen()

    @property
    def history(self) -> History | None:
        """The `History` of the run under way, or of the last one."""
        return self.bridge.history

    @property
    def running(self) -> bool:
        return self._training is not None and not self._training.run.over

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint has to hold: plain data and tensors, by reference."""
        training = self._training
        if training is None:
            return dict(self._saved or {})
        found = self.bridge.state_dict(training.next)
        if training.run.over:
            found["loop"]["stops"] = []  # who runs the trainer again asks for more
        return found

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Have the next run of the trainer continue the one whose state this is."""
        self._saved = saved or None

    def _state_to_continue(self) -> Mapping[str, Any] | None:
        """Find the state with which the trainer's run has to begin; None for a fresh one.

        Raises:
            StateError: If the trainer is somewhere else than the state.
        """
        state, saved = self.trainer.state, self._saved
        self._saved = None
        if saved is not None:
            self._check_place(saved)
            return saved
        if self._training is None or not state.epoch:
            return None
        saved = copy.deepcopy(self.state_dict())  # the trainer goes on, as after terminate()
        saved["loop"].update(epoch=state.epoch, batch=0, logs={})
        return saved

    def _check_place(self, saved: Mapping[str, Any]) -> None:
        state, loop = self.trainer.state, saved["loop"]
        if not state.epoch_length:
            return
        place = loop["epoch"] * state.epoch_length + loop["batch"]
        if state.iteration != place:
            message = (
                f"The state of the callbacks is of {place} iterations, the trainer goes on after "
                f"{state.iteration}."
            )
            raise StateError(message, fix="load both of them from one checkpoint")

    # -- runs of the trainer -----------------------------------------------------------------------

    def _listen(self) -> None:
        trainer = self.trainer
        self._inner = trainer.run
        trainer.run = self._guarded  # a handler of EXCEPTION_RAISED would swallow what it sees
        handlers = {
            Events.STARTED: self._started,
            Events.EPOCH_STARTED: self._epoch_started,
            Events.EPOCH_COMPLETED: self._epoch_completed,
            Events.TERMINATE: self._terminated,
            Events.INTERRUPT: self._interrupted,
            Events.COMPLETED: self._completed,
        }
        trainer.add_event_handler(Events.ITERATION_STARTED, self._iteration_started)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        for event, handler in handlers.items():
            trainer.add_event_handler(event, self._noting, handler)
        if self._evaluator is not None:
            tests = Tests(self._evaluator, trainer, lambda: self._training)
            for event, handler in tests.handlers().items():
                self._evaluator.add_event_handler(event, self._noting, handler)

    def _noting(self, engine: Any, handle: Callable[[], None]) -> None:
        """Handle an event; an exception of it ends the run, also if Ignite swallows it."""
        try:
            handle()
        except BaseException as error:
            self._note(error)
            raise

    def _note(self, error: BaseException) -> None:
        self._error = error
        self.trainer.terminate()

    def _guarded(self, *args: Any, **kwargs: Any) -> Any:
        """Run the trainer, and end the run of the callbacks however that ends."""
        self._error, self._paused = None, False
        try:
            result = self._inner(*args, **kwargs)
            if self._error is not None:  # a handler of EXCEPTION_RAISED has swallowed it
                raise self._error
        except BaseException as error:
            if self._training is not None:
                self._training.run.fail(error)
            raise
        finally:
            self._unwatch()
        if self.running and not self._paused:
            self._left()
        return result

    def _left(self) -> None:
        """End a run that Ignite has left without COMPLETED."""
        if self.trainer.should_terminate != "skip_completed":
            reason = "a handler of Ignite's EXCEPTION_RAISED has swallowed what ended the run"
            self._now.loop.stop(reason, failed=True)
        self._completed()

    def _unwatch(self) -> None:
        if self._watch is not None and not self._paused:
            self._watch.remove()
            self._watch = None

    @property
    def _now(self) -> Training:
        assert self._training is not None  # noqa: S101  (asked for during a run only)
        return self._training

    def _interrupted(self) -> None:
        self._paused = True  # the trainer goes on with the same run

    # -- events of the trainer ---------------------------------------------------------------------

    def _started(self) -> None:
        trainer = self.trainer
        saved = self._state_to_continue()
        self.bridge.load_state_dict(saved or {})
        training = self._training = Training(self.bridge, trainer, note=self._note, **self._about)
        loop = training.loop
        if self._loss_fn is not None and training.watches:
            self._watch = self._loss_fn.register_forward_hook(training.see_loss)
        if saved is None and trainer.state.epoch:
            loop.message(
                f"The trainer goes on after epoch {trainer.state.epoch} without a state of the "
                "callbacks: they begin afresh.\nfix: load it from the trainer's checkpoint"
            )
        elif loop.resumed and loop.start[1] and loop.start[0] < trainer.state.epoch:
            self._catch_up()
        if loop.stop_training:
            if loop.resumed:
                training.run.act(training.run.driver.say_finished, trainer.state.max_epochs)
            trainer.terminate()

    def _catch_up(self) -> None:
        """End an epoch that was saved between its last batch and its end: Ignite will not."""
        training, epoch = self._now, self._now.loop.start[0]
        if self._evaluator is not None and self._run_validation is None:
            training.loop.message(
                f"Epoch {epoch + 1} was saved before it had ended, and its validation cannot be "
                "run again.\nfix: attach(..., run_validation=...), or save after on_epoch_end"
            )
        training.begin_epoch(epoch)
        self._finish_epoch()

    def _epoch_started(self) -> None:
        if self.running:
            self._now.begin_epoch(self.trainer.state.epoch - 1)
            if self._now.loop.stop_training:
                self.trainer.terminate()  # no batch of it; COMPLETED ends it

    def _iteration_started(self, engine: Any) -> None:
        training = self._training
        if training is not None and not training.run.over:
            training.begin_batch()

    def _iteration_completed(self, engine: Any) -> None:
        training = self._training
        if training is None or training.run.over:
            return
        training.end_batch()
        if training.loop.stop_training:
            if training.loop.failed:
                self.trainer.terminate()
            else:
                self.trainer.terminate_epoch()  # with EPOCH_COMPLETED, unlike terminate()

    def _epoch_completed(self) -> None:
        if self.running and self._now.open:
            self._finish_epoch()
            if self._now.loop.stop_training:
                self.trainer.terminate()

    def _finish_epoch(self) -> None:
        training, validate = self._now, self._run_validation
        training.leave_batch()
        if validate is not None and not training.loop.failed:
            if self._evaluator is None:
                training.test(validate)
            else:
                validate()
        training.end_epoch()

    def _terminated(self) -> None:
        state = self.trainer.state
        done = state.max_iters is not None and state.iteration >= state.max_iters
        if self.running and not done and not self._now.loop.stop_training:
            self._now.loop.stop("the trainer was terminated")

    def _completed(self) -> None:
        if self.running:
            if self._now.open:
                self._finish_epoch()
            self._now.run.end()
