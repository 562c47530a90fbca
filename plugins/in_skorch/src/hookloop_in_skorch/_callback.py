"""HookloopCallback: hookloop's callbacks as one callback of skorch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from skorch.callbacks import Callback

from hookloop.errors import ArgumentError
from hookloop.history import History
from hookloop.hosting import Bridge
from hookloop_in_skorch._ending import join, leave
from hookloop_in_skorch._session import Session


class HookloopCallback(Callback):  # type: ignore[misc]
    """Runs hookloop callbacks in a net of skorch.

    It is put after the callbacks that score, whose scores it reports, and before those that save.
    While a net trains, ``net.hookloop_`` is this object, so that ``f_hookloop`` of skorch's
    ``Checkpoint`` is the file for the state of the callbacks.

    Args:
        callbacks: In any form in which callbacks can be chosen.
        name: What it is called in the net and in its checkpoints, in place of ``hookloop``.
        on_callback_error: ``"raise"`` or ``"disable"`` for all callbacks; ``"auto"`` ends the run
            unless the callback only observes.

    Raises:
        HookloopError: If one of the callbacks cannot be made.
    """

    def __init__(
        self, callbacks: Any = (), name: str = "hookloop", on_callback_error: str = "auto"
    ) -> None:
        # As they are given, and nothing else without a last underscore: sklearn clones by them.
        self.callbacks = callbacks
        self.name = name
        self.on_callback_error = on_callback_error
        self._renew()

    def _renew(self) -> None:
        self.bridge_ = Bridge(self.callbacks, policy=self.on_callback_error)
        self.session_: Session | None = None
        self.saved_: Mapping[str, Any] | None = None

    def initialize(self) -> HookloopCallback:
        """Begin afresh, as skorch asks for when a net is initialized: at each ``fit``."""
        self._renew()
        return self

    def set_params(self, **params: Any) -> None:
        """Change settings, as a search over parameters does; the callbacks are made anew."""
        super().set_params(**params)
        if params:
            self._renew()

    @property
    def history(self) -> History | None:
        """The `History` of the training under way, or of the last one."""
        return self.bridge_.history

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give what skorch's checkpoints have to hold: plain data and tensors, by reference.

        The training that continues from it begins with a whole epoch: skorch has no other way. A
        request to stop is in it only while the training that was asked runs.
        """
        session = self.session_
        if session is None or (session.run.over and self.saved_ is not None):
            return dict(self.saved_ or {})
        found = self.bridge_.state_dict((session.next_epoch, 0))
        if session.run.over:
            found["loop"]["stops"] = []
        return found

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Have the next training continue the one whose state this is."""
        self.saved_ = saved or None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.get_params(deep=False), "saved_": self.state_dict() or None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()
        self.saved_ = state["saved_"]

    # -- hooks of skorch ---------------------------------------------------------------------------

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:  # noqa: N803
        if self.session_ is not None:  # partial_fit goes on
            self.saved_ = copy.deepcopy(self.state_dict())
            self.session_ = None
        attribute = f"{self.name}_"
        there = getattr(net, attribute, self)
        in_use = there is not self and any(one is there for _, one in net.callbacks_)
        if in_use or not isinstance(there, HookloopCallback):
            message = f"The net has {attribute!r} already, a {type(there).__name__}."
            raise ArgumentError(message, fix='HookloopCallback(..., name="another")')
        setattr(net, attribute, self)
        self.last_ = join(net, self)

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **_: Any
    ) -> None:
        if self.session_ is None:
            self.session_ = self._begin(net, dataset_train, dataset_valid)
        self.session_.begin_epoch()

    def _begin(self, net: Any, train: Any, valid: Any) -> Session:
        """Begin the run: at its first epoch, when skorch has loaded and split all it will."""
        saved, self.saved_ = self.saved_, None
        self.bridge_.load_state_dict(saved or {})
        epochs = self.last_.context_.get("epochs")
        return Session(
            self.bridge_,
            net,
            epochs=net.max_epochs if epochs is None else epochs,
            train=train,
            valid=valid,
            first=saved["loop"]["epoch"] if saved else 0,
        )

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        if self.session_ is not None:
            self.session_.begin_batch(batch, training=training)

    def on_grad_computed(self, net: Any, named_parameters: Any = None, **_: Any) -> None:
        if self.session_ is not None and self.session_.watches:
            self.session_.gradients_complete()

    def on_batch_end(
        self,
        net: Any,
        batch: Any = None,
        training: bool = False,
        loss: Any = None,
        y_pred: Any = None,
        **_: Any,
    ) -> None:
        if self.session_ is not None:
            self.session_.end_batch(loss, y_pred, training=training)

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        if self.session_ is not None:
            self.session_.measure_epoch()

    def on_train_end(self, net: Any, **_: Any) -> None:
        leave(net, self.last_)
        if self.session_ is not None:
            self.session_.run.end()

    def end_with(self, error: BaseException, *, stopped: bool) -> None:
        """End the run with an exception that skorch lets pass, or swallows; once.

        Args:
            error: The exception.
            stopped: Whether it is how skorch's own EarlyStopping asks to stop.
        """
        session = self.session_
        if session is None or session.run.over:
            return
        if stopped:
            session.loop.stop("EarlyStopping of skorch")
            session.measure_epoch()
        else:
            session.run.fail(error)
