"""The callback: what the Trainer's events mean to hookloop, and its state in the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain, count
from typing import Any, Literal

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hookloop import History
from hookloop.checkpoints import as_json, from_json
from hookloop.errors import CapabilityError, HookloopError
from hookloop.hosting import Bridge
from hookloop_in_transformers import _trainer
from hookloop_in_transformers._around import Around, left_open
from hookloop_in_transformers._training import Training

#: Where the state is, in what this callback has in ``trainer_state.json``.
_STATE = "hookloop"


class HookloopCallback(TrainerCallback, ExportableState):  # type: ignore[misc]  # or Any
    """Carries hookloop callbacks in a ``transformers.Trainer``.

    Pass it in the Trainer's ``callbacks=``; one carries as many callbacks as you like. Their state
    goes into the Trainer's checkpoints, and comes back with ``resume_from_checkpoint``, whatever
    ``restore_callback_states_from_checkpoint`` says.

    Args:
        callbacks: In any form in which callbacks can be chosen. Those chosen by name are made
            afresh for every ``train()``.
        on_callback_error: What follows an exception of a callback: ``"raise"`` ends the run,
            ``"disable"`` turns the callback off, ``"auto"`` does the one or the other by its kind.
        name: Its key in the Trainer's checkpoints; by default ``"HookloopCallback"``, and
            ``"HookloopCallback#2"`` for the second of a Trainer.

    Raises:
        HookloopError: If a callback cannot be made.
    """

    # The Trainer keys saved state by the name of the class, and restores a callback by calling its
    # class: so every instance has a class of its own, and calling that gives the instance back.

    _live: HookloopCallback | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> HookloopCallback:
        if cls._live is not None:
            return cls._live
        own = type(cls.__name__, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__})
        made: HookloopCallback = super().__new__(own)
        type(made)._live = made
        return made

    def __init__(
        self,
        callbacks: Any = (),
        *,
        on_callback_error: Literal["raise", "disable", "auto"] = "auto",
        name: str | None = None,
    ) -> None:
        if hasattr(self, "bridge"):  # called by the Trainer, to restore it
            return
        self._settings = {"on_callback_error": on_callback_error, "name": name}
        self._chosen = callbacks
        self.bridge = Bridge(callbacks, policy=on_callback_error)
        self.training: Training | None = None
        self._around: Around | None = None
        self._exported: dict[str, Any] = {}
        self._name = name or HookloopCallback.__name__
        self.misses_exceptions = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle it as it was made: a run under way stays with the original."""
        return partial(type(self).__mro__[1], **self._settings), (self._chosen,)

    @property
    def history(self) -> History | None:
        """The `History` of the training under way, or of the last one; None before the first."""
        return self.bridge.history

    # -- the trainer -----------------------------------------------------------------------

    def _join(self) -> bool:
        """Find the trainer, and follow what it does between its events; tell whether it is new."""
        trainer = _trainer.around(self)
        if self._around is not None:
            if self._around.trainer is trainer:
                _trainer.surround(trainer, self._around)
                return False
            self._around.active = False
        others = (one for one in trainer.callback_handler.callbacks if one is not self)
        bridges = [one for one in others if isinstance(one, HookloopCallback)]
        taken = {type(one).__name__ for one in bridges if one.trainer is trainer}
        names = chain([self._name], (f"{self._name}#{number}" for number in count(2)))
        type(self).__name__ = next(name for name in names if name not in taken)
        self._around = Around(self, trainer)
        _trainer.surround(trainer, self._around)
        return True

    @property
    def trainer(self) -> Any:
        """The Trainer that this was passed to; None before."""
        return self._around.trainer if self._around is not None else None

    def on_init_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._join()

    # -- the run ---------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        # By add_callback, after on_init_end: this train() is already under way, unsurrounded.
        self.misses_exceptions = self._join()
        self.fail(left_open())
        if args.world_size > 1:
            message = f"The Trainer runs in {args.world_size} processes; hookloop runs in one only."
            raise CapabilityError(message, fix="train in one process, or without HookloopCallback")
        self.bridge.load_state_dict(self._saved(state))
        self.training = Training(self, self.trainer, **about)
        self.training.begin()
        self._pass_on(control)

    def on_train_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self.end()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        training = self._running()
        training.epoch_begin()
        self._pass_on(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._running().epoch_end(evaluation_follows=control.should_evaluate)
        self._pass_on(control)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._running().before_step()

    def on_substep_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._running().batch_end(checkpoint=False)
        self._pass_on(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._running().batch_end(checkpoint=True)
        self._pass_on(control)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **about: Any
    ) -> None:
        if self._around is not None and self._around.evaluation is not None:
            self._around.evaluation.report(metrics)

    def _running(self) -> Training:
        if self.training is None:
            message = "The Trainer trains, and has not begun to."
            raise HookloopError(message, fix="add HookloopCallback before train() is called")
        return self.training

    def _pass_on(self, control: Any) -> None:
        if self._running().loop.stop_training:
            control.should_training_stop = True

    def fail(self, error: BaseException) -> None:
        """End a run that an exception is ending, or has ended; nothing happens if there is none."""
        if self.bridge.run is not None:
            self.bridge.run.fail(error)

    def end(self) -> None:
        """End the run in order; nothing happens if it is over already."""
        if self.training is not None and self.bridge.running:
            self.training.end()

    # -- state -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give what goes into ``trainer_state.json``; called when the Trainer saves a checkpoint.

        The Trainer's own way back, through ``args`` and ``attributes``, is not used: it needs a
        flag, and makes a new object.
        """
        self._exported = {"args": {}, "attributes": {}}
        if self.training is not None and self.bridge.running:
            self.training.flush()
            saved = self.bridge.state_dict(self.training.position)
            self._exported[_STATE] = as_json(saved)
        return self._exported

    def _saved(self, state: Any) -> dict[str, Any]:
        """Find our state in what the Trainer has read from a checkpoint; empty if there is none."""
        key = type(self).__name__
        found = state.stateful_callbacks.get(key)
        # The Trainer fails to save where this is missing or is a list.
        state.stateful_callbacks[key] = {}
        if found is self._exported or not isinstance(found, Mapping) or _STATE not in found:
            return {}  # the first is what `state` gave for a training that begins
        return from_json(found[_STATE])
