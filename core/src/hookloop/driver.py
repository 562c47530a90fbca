"""Driver: fires the hooks of a run in the order of the contract. Every host drives through one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hookloop import buffers, compared, state, switches
from hookloop.arguments import under_way
from hookloop.capabilities import HOSTS
from hookloop.errors import CapabilityError, HookloopError, listed
from hookloop.logs import Logs
from hookloop.loop import Loop


class Driver:
    """Drives the hooks of one run, and keeps what the loop shows to callbacks up to date.

    Args:
        loop: The loop of the run, with its callbacks.

    Attributes:
        loop: As given.
        training: Whether a run of training is under way.
        validation: What validation has reported in the open epoch, by its names there.

    Raises:
        CapabilityError: If a callback needs what the host does not offer.
        HookloopError: If another run that is under way has one of the callbacks.
    """

    def __init__(self, loop: Loop, *, trains: bool = True) -> None:
        self.loop = loop
        self.registry = loop.registry
        self._last: Logs = Logs()
        self.validation: dict[str, Any] = {}
        self.training = False
        self._testing = False
        self._predicting = False
        self._epoch_logs = loop.logs
        self._test_logs = loop.logs
        self._outer: tuple[int | None, Logs] = (None, loop.logs)
        if trains:  # an evaluation may be watched by who watches the training around it
            self._refuse_taken()
        self._bind()

    def fire(self, hook: str, *arguments: Any) -> None:
        """Call a hook's implementations, with the loop as first argument."""
        call = self.registry.dispatch(hook)
        if call is not None:
            call(self.loop, *arguments)

    def _refuse_taken(self) -> None:
        taken = [one for other in under_way for one in other.callbacks.values()]
        for name, callback in self.loop.callbacks.items():
            if any(callback is one for one in taken):
                message = f"{name} is in use by another run, which has not ended."
                raise HookloopError(message, fix="make another instance of it for this run")

    def _bind(self) -> None:
        loop = self.loop
        for name, callback in loop.callbacks.items():
            lacking = [need for need in getattr(callback, "needs", ()) if not loop.supports(need)]
            if lacking:
                able = [host for host, offered in HOSTS.items() if offered.issuperset(lacking)]
                message = f"{name} needs {listed(lacking)}, which {loop.host} does not offer."
                raise CapabilityError(message, fix=f"run it in: {listed(able)}")
        for name, callback in loop.callbacks.items():
            given = {"set_loop": loop, "set_params": loop.params}
            given |= {"set_model": loop.model} if loop.model is not None else {}
            if hasattr(callback, "validation_data"):
                callback.validation_data = loop.validation_data
            for setter, value in given.items():
                if hasattr(callback, setter):
                    self.registry.ask(name, setter, loop, value)

    # -- training ----------------------------------------------------------------------------

    def train_begin(self) -> None:
        """Start the run; state that a callback asked to restore is put back when it is due."""
        self.loop.clear_flags()
        if self.loop.supports("state"):
            self.loop.made = {"optimizers": compared.optimizers_of(self.loop)}
            self.loop.switches = switches.of(self.loop.model)
            self.loop.buffers = buffers.noted(self.loop.model)
        self.training = True
        self.registry.begin("on_train_begin")
        self.fire("on_train_begin", Logs())
        state.check_plain(self.loop)  # not before: many callbacks set themselves up in that hook
        pending = self.loop.pending_state
        if pending is not None and not pending["loop"]["batch"]:
            self.restore(pending)

    def epoch_begin(self, epoch: int) -> None:
        """Start an epoch, or continue it where a restored state left it."""
        loop = self.loop
        loop.epoch, loop.batch = epoch, None
        loop.logs = self._epoch_logs = Logs()
        self.validation = {}
        if loop.optimizers:
            loop.check_rate()
        self.fire("on_epoch_begin", epoch, Logs())
        if loop.pending_state is not None:
            self.restore(loop.pending_state)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Put back a state that was waiting for the begin hooks."""
        self.loop.pending_state = None
        self.loop.apply_state(saved)

    def say_finished(self, epochs: int) -> None:
        """Tell that the run which is resumed has nothing left to train."""
        loop = self.loop
        if loop.pending_state is not None:  # of the middle of an epoch that this run does not have
            self.restore(loop.pending_state)
        why = loop.stop_reason or f"{loop.start[0]} epochs are done, and epochs={epochs}"
        loop.message(f"The resumed run has ended already ({why}): nothing is left to train.")

    def batch_begin(self, batch: int, logs: Logs) -> None:
        """Start a training batch; ``logs`` holds its size and serves it to its end."""
        self.loop.batch, self.loop.logs = batch, logs
        self.fire("on_train_batch_begin", batch, logs)

    def batch_end(self, batch: int, logs: Logs, *, checkpoint: bool = True) -> None:
        """End a training batch, and let savers save if no accumulation window is open."""
        self.fire("on_train_batch_end", batch, logs)
        self.loop.logs = self._epoch_logs
        if checkpoint:
            self.batch_checkpoint(batch, logs)
        self.loop.batch = None

    def batch_checkpoint(self, batch: int, logs: Logs) -> None:
        """Let savers save: the next batch is the one after this."""
        self._checkpoint("on_batch_checkpoint", (self.loop.epoch or 0, batch + 1), batch, logs)

    def _checkpoint(self, hook: str, position: tuple[int, int], *arguments: Any) -> None:
        self.loop.position = position
        try:
            self.fire(hook, *arguments)
        finally:
            self.loop.position = None

    def epoch_end(self, values: Mapping[str, Any] | None = None) -> Logs:
        """End an epoch with what the host measured in it.

        Returns:
            The logs of the epoch, with what callbacks added.
        """
        loop, epoch = self.loop, self.loop.epoch or 0
        logs = Logs()
        loop.batch = None
        logs.update(values or {}, loop.logs, self.validation)
        loop.logs = self._last = logs
        self.fire("on_epoch_end", epoch, logs)
        self._checkpoint("on_epoch_checkpoint", (epoch + 1, 0), epoch, logs)
        loop.logs = self._epoch_logs = Logs()
        self.validation = {}
        return logs

    def so_far(self) -> dict[str, Any]:
        """Give what the logs of the open epoch hold, validation's too, without reading any.

        For a state that a host saves inside an epoch, or inside a batch, whose own are others.
        """
        return {**dict(self._epoch_logs.raw_items()), **self.validation}

    def train_end(self) -> None:
        """End the run in order."""
        self.loop.outcome = self._outcome()
        self.training = False
        try:
            self.fire("on_train_end", self._last)
        finally:
            self._report_disabled()

    def _outcome(self) -> str:
        if self.loop.interrupted:
            return "interrupted"
        if self.loop.failed:
            return "failed"
        return "stopped" if self.loop.stop_training else "finished"

    # -- testing and predicting ---------------------------------------------------------------

    def test_begin(self) -> None:
        """Start validation or evaluation."""
        self._outer = (self.loop.batch, self.loop.logs)
        self.loop.batch = None
        self.loop.logs = self._test_logs = Logs()
        self._testing = True
        self.registry.begin("on_test_begin")
        self.fire("on_test_begin", Logs())

    def test_batch_begin(self, batch: int, logs: Logs) -> None:
        """Start a batch of validation or evaluation."""
        self.loop.batch, self.loop.logs = batch, logs
        self.fire("on_test_batch_begin", batch, logs)

    def test_batch_end(self, batch: int, logs: Logs) -> None:
        """End a batch of validation or evaluation."""
        self.fire("on_test_batch_end", batch, logs)
        self.loop.logs, self.loop.batch = self._test_logs, None

    def test_end(self, logs: Logs, names: Mapping[str, str] | None = None) -> Logs:
        """End validation or evaluation; during training its logs go on as ``val_*``.

        Args:
            logs: What was measured.
            names: How the epoch names what is not to be ``val_<key>`` there.

        Returns:
            The logs, with what callbacks added.
        """
        for key, value in self.loop.logs.raw_items():
            logs.setdefault(key, value)
        self.loop.logs = logs
        self._testing = False
        try:
            self.fire("on_test_end", logs)
        finally:
            self.loop.batch, self.loop.logs = self._outer
        if self.training:
            named = names or {}
            found = {named.get(key, f"val_{key}"): value for key, value in logs.raw_items()}
            self.validation.update(found)
        return logs

    def predict_begin(self) -> None:
        """Start a prediction."""
        self._predicting = True
        self.registry.begin("on_predict_begin")
        self.fire("on_predict_begin", Logs())

    def predict_batch_begin(self, batch: int, logs: Logs) -> None:
        """Start a batch of a prediction."""
        self.loop.batch = batch
        self.fire("on_predict_batch_begin", batch, logs)

    def predict_batch_end(self, batch: int, logs: Logs) -> None:
        """End a batch of a prediction."""
        self.fire("on_predict_batch_end", batch, logs)
        self.loop.batch = None

    def predict_end(self) -> None:
        """End a prediction."""
        self._predicting = False
        self.fire("on_predict_end", Logs())

    # -- failing -----------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """End a run that an exception is ending: its end hooks run, none hides the exception.

        Args:
            error: What ends the run; failures of end hooks become its notes. Not raised here.
        """
        self.loop.outcome = "failed" if isinstance(error, Exception) else "interrupted"
        ends: list[tuple[str, Any]] = [("on_test_end", Logs())] if self._testing else []
        if self.training:
            ends += [("on_exception", error), ("on_train_end", self._last)]
        if self._predicting:
            ends.append(("on_predict_end", Logs()))
        self._testing = self.training = self._predicting = False
        for hook, argument in ends:
            try:
                self.fire(hook, argument)
            except BaseException as another:
                if another is not error:
                    error.add_note(f"and then {type(another).__name__}: {another}")
        if self.loop.history is not None:
            self.loop.history.outcome = self.loop.outcome  # also where on_train_end is what failed
        with suppress(Exception):  # a line that cannot be shown must not hide the error
            self._report_disabled()

    def _report_disabled(self) -> None:
        for name, error in self.registry.disabled.items():
            self.loop.message(f"{name} was off since it failed: {type(error).__name__}: {error}")
