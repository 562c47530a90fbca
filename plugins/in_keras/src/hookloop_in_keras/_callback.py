"""HookloopCallback: one callback of Keras that carries callbacks of hookloop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hookloop import History, Logs
from hookloop.errors import ArgumentError, CapabilityError, StateError
from hookloop.hosting import Bridge, Run, start
from hookloop_in_keras import _calls
from hookloop_in_keras._backup import Backup
from hookloop_in_keras._batches import Batches
from hookloop_in_keras._keras import keras, refuse_other_backends
from hookloop_in_keras._loop import KerasLoop

# Here, and not when a callback is made: in model.fit(callbacks=[HookloopCallback()]) Python looks
# model.fit up before that, and the first training would go unwatched.
_calls.watch()


class HookloopCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Carries hookloop callbacks through ``fit``, ``evaluate`` and ``predict`` of Keras.

    Args:
        callbacks: In any form in which callbacks can be chosen. Those chosen by name are made
            afresh for every run.
        backup: A ``keras.callbacks.BackupAndRestore``, in place of one in Keras's own list: the
            state of the callbacks is then saved and brought back together with the weights.
        on_callback_error: What follows an exception of a callback: ``"raise"``, ``"disable"`` or
            ``"auto"``.

    Raises:
        HookloopError: If a callback cannot be made, or Keras does not run on torch.
    """

    def __init__(
        self, callbacks: Any = (), *, backup: Any = None, on_callback_error: Any = "auto"
    ) -> None:
        super().__init__()
        refuse_other_backends()
        self._items, self._policy = callbacks, on_callback_error
        self._bridge = Bridge(callbacks, policy=on_callback_error)
        self._backup = Backup(backup) if backup is not None else None
        self._loaded: int | None = None  # epoch of a state that the next fit continues
        self._run: Run | None = None  # that of fit, or of evaluate or predict alone
        self._batches: Batches | None = None
        self._initial_epoch: int | None = None  # of the model, as it was found
        self._muted = False  # in an epoch that did not begin, or is not rounded off

    @property
    def history(self) -> History | None:
        """The `History` of the training under way, or of the last one; None before the first."""
        return self._bridge.history

    # -- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give the state of the callbacks: plain data and tensors, by reference.

        It is that of the next epoch, or of the beginning of the one under way: inside an epoch
        Keras cannot go on.
        """
        return self._bridge.state_dict((self._next_epoch, 0))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the next ``fit`` continue the training whose state this is, from its epoch on.

        The weights are Keras's to bring back, before ``fit``: ``model.load_weights()``, or
        ``keras.saving.load_model()``.
        """
        self._bridge.load_state_dict(state)
        self._loaded = int(state["loop"]["epoch"]) if state else None

    # -- training --------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        call, model = self._enter("fit"), self.model
        self._initial_epoch, self._muted = model._initial_epoch, False
        said = self._restore(call)
        batches = self._batches = Batches(model)
        run = self._bridge.begin(
            KerasLoop,
            counts=False,  # Keras's optimizers do so themselves
            prepare=self._prepare,
            model=model,
            optimizers=_optimizers(model),
            params={**self.params, **call.params(), "metrics": batches.catch.metrics},
            validation_data=call.get("validation_data"),
        )
        self._run = batches.run = run
        if self._backup is not None and self._backup.per_batch:
            batches.after = self._back_up_batch
        if said:
            run.act(run.loop.message, said)
        epochs = self.params["epochs"]
        if run.loop.resumed and (run.loop.stop_training or run.loop.start[0] >= epochs):
            run.act(run.driver.say_finished, epochs)
        if run.loop.stop_training:  # no epoch runs; Keras itself would train a batch first
            model._initial_epoch = epochs

    def _enter(self, method: str) -> _calls.Call:
        """Find the call that a run belongs to, and have it tell how it ends.

        Raises:
            CapabilityError: If there is none.
        """
        call = _calls.entered(method, self.model)
        if call is None:
            message = f"HookloopCallback is in a loop that is not model.{method}() of Keras."
            raise CapabilityError(message, fix="hookloop.attach(...) for a loop written by hand")
        if self._run is not None:
            message = f"This HookloopCallback is in a run already, and {method}() was given it too."
            raise ArgumentError(message, fix="make one for each run that is under way at a time")
        call.runners.append(self)
        return call

    def _restore(self, call: _calls.Call) -> str | None:
        """Have an earlier training continued, if there is one; may give a sentence to say."""
        model, given = self.model, call.get("initial_epoch") or 0
        found: Any = _alone(call)
        if self._backup is not None:
            self._refuse_shared(call)
            found = self._backup.restore(model, self.params)
        if isinstance(found, Mapping):
            self.load_state_dict(found)
        epoch, self._loaded = self._loaded, None
        if epoch is not None:
            if given not in (0, epoch) and not isinstance(found, Mapping):
                message = f"The state is of epoch {epoch}, and fit() begins with epoch {given}."
                raise StateError(message, fix=f"leave initial_epoch out, or initial_epoch={epoch}")
            model._initial_epoch = epoch
        return found if isinstance(found, str) else None

    def _refuse_shared(self, call: _calls.Call) -> None:
        mine: Any = self._backup
        for other in call.runners:
            if other is not self and getattr(other, "folder", None) == mine.folder:
                message = f"Two HookloopCallbacks back up into {mine.folder}."
                raise ArgumentError(message, fix="give one of them all callbacks, and the backup")

    @property
    def folder(self) -> Path | None:
        """Where the state is backed up to, if it is."""
        return self._backup.folder if self._backup is not None else None

    def _prepare(self, loop: KerasLoop) -> None:
        assert self._batches is not None  # noqa: S101  (made before every loop)
        loop.refuse(own_step=not self._batches.catch.own_step)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        run, loop = self._going()
        loop.steps.settle()
        self._muted = loop.stop_training  # asked for before the first epoch, by one of Keras's
        if not self._muted:
            run.act(run.driver.epoch_begin, epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batches.announce("train", batch)  # type: ignore[union-attr]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        run, loop = self._going()
        if self._muted or loop.ends_badly():
            return
        found = run.act(run.driver.epoch_end, logs)
        _write_back(logs, found)
        if loop.stop_training:
            self.model.stop_training = True
        if self._backup is not None:
            run.act(self._backup.save, self.model, self._state, "on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        run, loop = self._going()
        run.end()
        if self._backup is not None and loop.outcome in ("finished", "stopped"):
            self._backup.end()

    def _back_up_batch(self, batch: int) -> None:
        backup: Any = self._backup
        backup.save(self.model, self._state, "on_train_batch_end", batch)

    def _going(self) -> tuple[Run, KerasLoop]:
        """Give the run under way, and its loop."""
        assert self._run is not None  # noqa: S101  (Keras calls the begin hook first)
        return self._run, self._run.loop  # type: ignore[return-value]

    def _state(self) -> tuple[int, dict[str, Any]]:
        """Give what is saved with the weights: the calls of the optimizer, and the state."""
        _, loop = self._going()
        return loop.steps.calls, self.state_dict()

    @property
    def _next_epoch(self) -> int:
        """The epoch that Keras would go on with: the one under way is begun again."""
        run = self._bridge.run
        if run is None or run.loop.epoch is None:
            return 0
        history = run.loop.history
        ended = history is not None and history.epoch[-1:] == [run.loop.epoch]
        return run.loop.epoch + ended

    # -- evaluating and predicting, in fit or alone ----------------------------------------------

    def on_test_begin(self, logs: Any = None) -> None:
        if self._run is None:
            self._visit("evaluate")
        run, loop = self._going()
        self._muted = self._muted or (run.driver.training and loop.ends_badly())
        if not self._muted:
            run.act(run.driver.test_begin)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self._muted:
            self._batches.announce("test", batch)  # type: ignore[union-attr]

    def on_test_end(self, logs: Any = None) -> None:
        if self._muted:
            return
        run, _ = self._going()
        found = Logs()
        found.update(logs or {})
        run.act(run.driver.test_end, found)
        _write_back(logs, found)

    def on_predict_begin(self, logs: Any = None) -> None:
        if self._run is None:
            self._visit("predict")
        run, _ = self._going()
        run.act(run.driver.predict_begin)

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batches.announce("predict", batch)  # type: ignore[union-attr]

    def on_predict_end(self, logs: Any = None) -> None:
        run, _ = self._going()
        run.act(run.driver.predict_end)

    def _visit(self, method: str) -> None:
        """Start the run of an evaluation or prediction that is no part of a training."""
        call, model = self._enter(method), self.model
        self._initial_epoch, self._muted = model._initial_epoch, False
        batches = self._batches = Batches(model)
        self._run = batches.run = start(
            KerasLoop,
            self._items,
            counts=False,
            prepare=self._prepare,
            policy=self._policy,
            model=model,
            optimizers=_optimizers(model),
            params={**self.params, **call.params(), "metrics": batches.catch.metrics},
        )

    # -- how a run ends --------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """End the run with the exception that ends Keras's call; not raised here."""
        if self._run is not None:
            self._run.fail(error)

    def leave(self) -> None:
        """Give the model back as it was found: Keras's call is over, in whatever way."""
        if self._batches is not None:
            self._batches.close()
        if self._run is not None:
            self._run.close()
        self.model._initial_epoch = self._initial_epoch
        self._run = self._batches = None


def _alone(call: _calls.Call) -> str | None:
    """Give a sentence to say if Keras backs up by itself, and so without the callbacks' state."""
    given = call.get("callbacks")
    keepers = keras.callbacks.BackupAndRestore
    if not any(isinstance(one, keepers) for one in keras.tree.flatten(given)):
        return None
    return (
        "Keras's BackupAndRestore keeps the weights, but not the state of hookloop's callbacks: "
        "after a restart they begin afresh.\n"
        "fix: HookloopCallback([...], backup=BackupAndRestore(...)), and not in Keras's own list"
    )


def _optimizers(model: Any) -> list[Any]:
    return [] if model.optimizer is None else [model.optimizer]


def _write_back(logs: Any, found: Logs) -> None:
    """Show Keras's own callbacks, its History among them, what ours have added."""
    if isinstance(logs, dict):
        logs.update((key, found[key]) for key in found if key not in logs)
