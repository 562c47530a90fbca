"""The loop of a run in Keras: a Keras optimizer has no parameter groups, and counts by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from hookloop.capabilities import HOSTS
from hookloop.errors import ArgumentError, CapabilityError
from hookloop.hosting import BridgeLoop
from hookloop_in_keras._keras import keras

_SCHEDULE = (
    "the optimizer's learning rate is a {}, which Keras does not let anybody set",
    "compile the model with a number, as in SGD(learning_rate=0.1), or leave that callback out",
)
_OWN_STEP = (
    "{} has a train_step or test_step of its own, which does not show its batches",
    "leave train_step to Keras, which calls compute_loss() of the model",
)


class Steps:
    """Counts the steps of a Keras optimizer, from where a run finds it.

    Args:
        optimizer: Of the model, or None.
    """

    def __init__(self, optimizer: Any) -> None:
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
        self._calls: Any = getattr(inner, "_iterations", None)
        self.window = int(getattr(inner, "gradient_accumulation_steps", None) or 1)
        self._read = self._since = self._first = 0
        self.started = False

    def settle(self) -> None:
        """Read the count from the device, once an epoch."""
        self._read, self._since = self.now(), 0
        if not self.started:
            self.started, self._first = True, self._read

    def now(self) -> int:
        """Read how often the optimizer was called in its life. Waits for the device."""
        return 0 if self._calls is None else int(self._calls.value)

    def batch(self) -> None:
        """Note that a batch was trained."""
        self._since += 1

    @property
    def calls(self) -> int:
        """How often the optimizer was called in its life: once a micro-batch.

        On an accelerator this is computed: to read it would wait for the device.
        """
        if self._calls is not None and self._calls.value.is_cpu:
            return int(self._calls.value)
        return self._read + self._since

    @property
    def done(self) -> int:
        """Steps of the run: of a window of accumulation the last call makes one."""
        return self.calls // self.window - self._first // self.window if self.started else 0

    @property
    def window_is_open(self) -> bool:
        return self.window > 1 and self.calls % self.window != 0


class KerasLoop(BridgeLoop):
    """The loop of a run in Keras."""

    host = "Keras"
    features = HOSTS[host]
    how_to_validate = "pass validation_data="

    def __init__(self, **about: Any) -> None:
        self._before, self._steps = 0, Steps(None)
        super().__init__(**about)
        self._steps = Steps(self.optimizer)
        self._why: dict[str, tuple[str, str]] = {}

    # -- what this run cannot do ------------------------------------------------------------------

    def refuse(self, *, own_step: bool) -> None:
        """Take from the features what this model does not allow, and refuse who needs it.

        Args:
            own_step: Whether the model trains or tests a batch in its own way.

        Raises:
            CapabilityError: Naming the callback, why, and what to do.
        """
        rate = getattr(self.optimizer, "learning_rate", None)
        if self.optimizer is not None and not isinstance(rate, keras.Variable):
            inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
            kind = type(getattr(inner, "_learning_rate", None)).__name__
            self._why["set_lr"] = (_SCHEDULE[0].format(kind), _SCHEDULE[1])
        if own_step:
            self._why["batch_data"] = (_OWN_STEP[0].format(type(self.model).__name__), _OWN_STEP[1])
        self.features = self.features.difference(self._why)
        for name, callback in self.callbacks.items():
            for need in getattr(callback, "needs", ()):
                if need in self._why:
                    why, fix = self._why[need]
                    raise CapabilityError(f"{name} needs {need}, but {why}.", fix=fix)

    # -- counting and stopping --------------------------------------------------------------------

    @property
    def step(self) -> int:  # read when somebody asks, not every batch
        return self._before + self._steps.done

    @step.setter
    def step(self, value: int) -> None:
        self._before = value - self._steps.done

    @property
    def steps(self) -> Steps:
        return self._steps

    def clear_flags(self) -> None:
        """Leave the model's flag alone: ``fit`` has cleared it, and who set it since means it."""

    # -- learning rate ----------------------------------------------------------------------------

    @property
    def lrs(self) -> list[float]:
        """The one learning rate there is, as the shortest number that is the same in float32.

        So 0.1 reads as 0.1, and not as 0.10000000149011612.
        """
        if not self.optimizers:
            return super().lrs
        rate = self.optimizer.learning_rate
        return [float(str(np.float32(float(getattr(rate, "value", rate)))))]

    def set_lr(
        self,
        value: float,
        optimizer: Any = None,
        *,
        by: str = "a callback",
        relative: bool = False,
    ) -> None:
        """Set the learning rate of the model's optimizer, as in `Loop.set_lr`.

        Raises:
            CapabilityError: If the optimizer follows a schedule of Keras.
        """
        if optimizer is not None and optimizer is not self.optimizer:
            message = "set_lr() was given an optimizer that is not that of the model."
            raise ArgumentError(message, fix="pass loop.optimizer, or none")
        if "set_lr" in self._why:
            why, fix = self._why["set_lr"]
            raise CapabilityError(f"{by} sets the learning rate, but {why}.", fix=fix)
        with self.setting_lr(by=by, relative=relative):
            self.optimizer.learning_rate = float(value)
