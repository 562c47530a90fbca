"""How a run of skorch ends early, or badly: it has no hook for either, and stops by exceptions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from skorch.callbacks import Callback, EarlyStopping


class Stop(KeyboardInterrupt):
    """Ends the training of skorch, which takes it for Ctrl-C and goes on after its loop."""


class Last(Callback):  # type: ignore[misc]
    """Stands behind all other callbacks of a net for one run, and ends it when hookloop asks.

    Whoever raises keeps the callbacks behind it from their hook; behind this there are none. It is
    in ``net.callbacks_`` alone, which skorch makes afresh, and so is never cloned.

    Attributes:
        bridges_: The bridges of the net that run.
        context_: Data and arguments of the running ``fit_loop``.
    """

    def __init__(self) -> None:
        self.bridges_: list[Any] = []
        self.context_: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"bridges_": [], "context_": {}}

    def asked(self) -> bool:
        """Tell whether any of them has to stop; after every batch."""
        for bridge in self.bridges_:  # noqa: SIM110  (any() costs three times this)
            if bridge.session_.loop.stop_training:
                return True
        return False

    def failed(self) -> bool:
        """Tell whether any of them has failed, which may wait for the device."""
        return any(bridge.session_.loop.failed for bridge in self.bridges_)

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **_: Any
    ) -> None:
        self.context_["datasets"] = (dataset_train, dataset_valid)
        if self.asked():
            for bridge in self.bridges_:
                bridge.session_.end_epoch({})
            with suppress(Exception):  # a history of several processes cannot delete
                del net.history[-1]  # no batch of this epoch runs
            raise Stop

    def on_batch_begin(self, net: Any, training: bool = False, **_: Any) -> None:
        if training:
            for bridge in self.bridges_:
                bridge.session_.watch_loss()
        elif self.asked() and self.failed():
            raise Stop

    def on_batch_end(self, net: Any, training: bool = False, **_: Any) -> None:
        if not training:
            return
        for bridge in self.bridges_:
            bridge.session_.unwatch_loss()
        if self.asked():
            if not self.failed():
                self._round_off(net)
            raise Stop

    def _round_off(self, net: Any) -> None:
        """Validate and end the epoch that was cut, as everywhere else; skorch would do neither."""
        train, valid = self.context_["datasets"]
        net.history.record("train_batch_count", len(net.history[-1, "batches"]))
        net.run_single_epoch(
            net.get_iterator(valid, training=False) if valid is not None else None,
            training=False,
            prefix="valid",
            step_fn=net.validation_step,
            **self.context_.get("arguments", {}),
        )
        net.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        if self.asked():
            raise Stop


class Guard:
    """Stands in for ``net.fit_loop`` for one call, as the only place that sees its exceptions."""

    def __init__(self, net: Any, last: Last, inner: Callable[..., Any]) -> None:
        self._net, self._last, self._inner = net, last, inner

    def __call__(self, X: Any, y: Any = None, epochs: Any = None, **arguments: Any) -> Any:  # noqa: N803
        net, last = self._net, self._last
        vars(net).pop("fit_loop", None)  # at once: a net that is saved meanwhile must not hold it
        forward = {key: one for key, one in arguments.items() if key != "_routing_method"}
        last.context_ = {"epochs": epochs, "arguments": forward}
        try:
            return self._inner(X, y, epochs, **arguments)
        except Stop:
            raise
        except BaseException as error:
            for bridge in list(last.bridges_):
                bridge.end_with(error, stopped=_is_early_stopping(error))
            raise
        finally:
            leave(net, last)


def join(net: Any, bridge: Any) -> Last:
    """Have a bridge see how the run of a net ends that is about to begin.

    Returns:
        The last callback of the net, which is shared by all its bridges.
    """
    last = next((one for _, one in net.callbacks_ if isinstance(one, Last)), None)
    if last is None:
        last = Last()
        net.callbacks_.append(("hookloop_last", last))
    if not isinstance(vars(net).get("fit_loop"), Guard):
        last.bridges_, last.context_ = [], {}
        vars(net)["fit_loop"] = Guard(net, last, net.fit_loop)
    last.bridges_.append(bridge)
    return last


def leave(net: Any, last: Last) -> None:
    """Take out of a net what `join` has put there."""
    for bridge in last.bridges_:
        if bridge.session_ is not None:
            bridge.session_.unwatch_loss()
    net.callbacks_ = [pair for pair in net.callbacks_ if pair[1] is not last]


def _is_early_stopping(error: BaseException) -> bool:
    """Tell whether it is skorch's own EarlyStopping that ends training, by a KeyboardInterrupt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    ours = EarlyStopping.on_epoch_end.__code__
    return (
        isinstance(error, KeyboardInterrupt) and trace is not None and trace.tb_frame.f_code is ours
    )
