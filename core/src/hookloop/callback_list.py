"""CallbackList: driving hooks one by one from a loop of one's own, called as in Keras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from hookloop.arguments import with_environment
from hookloop.capabilities import HOSTS
from hookloop.driver import Driver
from hookloop.errors import ArgumentError, HookloopError
from hookloop.history import History
from hookloop.hosting import Run
from hookloop.logs import Logs
from hookloop.loop import Loop
from hookloop.selection import load_callbacks, named

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class ListLoop(Loop):
    """The loop of a `CallbackList`: hooks as they are called, no data, no evaluation."""

    host = "CallbackList"
    features = HOSTS[host]
    how_to_validate = "give it to on_epoch_end"


class CallbackList:
    """Callbacks, and one method a hook to call from a loop of one's own.

    The checkpoint hooks follow by themselves; epoch hooks work without batch hooks. What callbacks
    add to logs is written back into the mapping that was passed. If a callback raises, every
    callback sees its end before the exception goes on; for an exception of the loop itself, call
    ``on_exception``.

    Args:
        callbacks: In any form in which callbacks can be chosen.
        model: The module that is trained.
        optimizer: Its optimizer; without one there is no learning rate, and every batch counts
            as a step.
        params: What callbacks find as ``params``: ``epochs``, ``steps`` and so on.
        validation_data: What callbacks find as ``validation_data``.
        history: Whether to add a `History`.
    """

    def __init__(
        self,
        callbacks: Any = (),
        *,
        model: nn.Module | None,
        optimizer: Optimizer | None = None,
        params: Mapping[str, Any] | None = None,
        validation_data: Any = None,
        history: bool = False,
    ) -> None:
        self._given = load_callbacks(callbacks) + ([History()] if history else [])
        self._callbacks = list(self._given)  # of the run under way, with what the environment adds
        self._about = {"model": model, "params": params, "validation_data": validation_data}
        self._optimizers = [optimizer] if optimizer is not None else []
        self._run: Run | None = None

    def append(self, callback: Any) -> None:
        """Add a callback; until the first hook is called."""
        if self._run is not None and not self._run.over:
            message = "The list of callbacks is fixed while a run is under way."
            raise HookloopError(message, fix="append before the first hook is called")
        self._given += load_callbacks([callback])
        self._callbacks = list(self._given)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._callbacks)

    def __len__(self) -> int:
        return len(self._callbacks)

    def as_callbacks(self) -> list[Any]:
        """Give the callbacks, for whoever takes this list in place of them."""
        return list(self._callbacks)

    @property
    def loop(self) -> Loop:
        """What the callbacks see; after a run, that of the run that is over."""
        return (self._run or self._started()).loop

    def _started(self) -> Run:
        """Give the run under way; where there is none, begin one."""
        if self._run is None or self._run.over:
            chosen, said = with_environment(self._given)
            self._callbacks = load_callbacks(chosen)
            loop = ListLoop(
                optimizers=self._optimizers, callbacks=named(self._callbacks), **self._about
            )
            loop.history = next((c for c in self._callbacks if isinstance(c, History)), None)
            self._run = Run(loop)
            if said:
                loop.message(said)
        return self._run

    def _in_training(self) -> Loop:
        """Begin the training that a loop without ``on_train_begin`` has forgotten to begin."""
        run = self._started()
        if not run.driver.training:
            run.act(run.driver.train_begin)
        return run.loop

    def _act(self, act: Any, *arguments: Any) -> Any:
        run = self._started()
        return run.act(act, run.driver, *arguments)

    # -- hooks -------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._act(Driver.train_begin)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._in_training()
        self._act(Driver.epoch_begin, _index("epoch", epoch))

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._in_training()
        self._act(Driver.batch_begin, _index("batch", batch), _logs(logs))

    def on_before_optimizer_step(
        self, optimizer: Any = None, logs: Mapping[str, Any] | None = None
    ) -> None:
        chosen = optimizer if optimizer is not None else self._started().loop.optimizer
        found = self._batch_logs(logs)
        self._act(Driver.fire, "on_before_optimizer_step", chosen, found)
        _write_back(logs, found)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loop = self._in_training()
        if not self._optimizers:
            loop.step += 1
        found = self._batch_logs(logs)
        loop.batch, loop.logs = _index("batch", batch), found
        self._act(Driver.batch_end, batch, found)
        _write_back(logs, found)

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._act(Driver.test_begin)

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._act(Driver.test_batch_begin, batch, _logs(logs))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        found = self._batch_logs(logs)
        self._act(Driver.test_batch_end, batch, found)
        _write_back(logs, found)

    def on_test_end(self, logs: Any = None) -> None:
        found = _logs(logs)
        self._act(Driver.test_end, found)
        _write_back(logs, found)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._in_training().epoch = _index("epoch", epoch)
        _write_back(logs, self._act(Driver.epoch_end, _logs(logs)))

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._act(Driver.predict_begin)

    def on_predict_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._act(Driver.predict_batch_begin, batch, _logs(logs))

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        found = _logs(logs)
        self._act(Driver.predict_batch_end, batch, found)
        _write_back(logs, found)

    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._act(Driver.predict_end)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._run is None or not self._run.over:  # a callback that raised has ended it already
            self._in_training()
            self._started().end()

    def on_exception(self, exception: BaseException) -> None:
        """Tell the callbacks that the run is ending with an exception, and end it."""
        if self._run is None or not self._run.over:
            self._started().fail(exception)

    on_batch_begin = on_train_batch_begin
    on_batch_end = on_train_batch_end

    def _batch_logs(self, logs: Mapping[str, Any] | None) -> Logs:
        """Continue the logs that the batch's begin hook started."""
        loop = self._started().loop
        found = loop.logs if loop.batch is not None else Logs()
        found.update(_logs(logs))
        return found


def _index(what: str, value: Any) -> int:
    """Refuse logs, or anything else, where the number of the epoch or batch belongs."""
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"The {what} is a {type(value).__name__}, not a number."
        raise ArgumentError(message, fix=f"callbacks.on_{what}_end({what}, logs)")
    return value


def _logs(logs: Any) -> Logs:
    if logs is not None and not isinstance(logs, Mapping):
        message = f"The logs are a {type(logs).__name__}, not a mapping of names to numbers."
        raise ArgumentError(message, fix='pass {"loss": 0.1}')
    found = Logs()
    found.update(logs or {})
    return found


def _write_back(logs: Any, found: Logs) -> None:
    if isinstance(logs, MutableMapping):
        for key in found:
            if key not in logs:  # or every batch would wait for what the loop itself reported
                logs[key] = found[key]
