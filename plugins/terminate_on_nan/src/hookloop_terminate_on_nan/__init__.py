"""terminate_on_nan: stop training as soon as the loss is not finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hookloop import Callback, hookimpl
from hookloop.errors import SettingError, warn
from hookloop_terminate_on_nan._finding import Arriving, Place, are_finite, is_finite

if TYPE_CHECKING:
    from hookloop import Logs

__all__ = ["TerminateOnNaN"]
__version__ = "0.1.0"


class TerminateOnNaN(Callback):
    """Stops training as a failure when the loss, or a named metric, is NaN or infinite.

    On the CPU it looks before the optimizer steps, so that the bad step is skipped. On an
    accelerator looking would wait for the device in every step; there it looks one step late, when
    the number has arrived and the device has the next step to work on, and without exception
    before evaluation, before a saver saves, and at the end. There it looks at the weights, too: a
    gradient that overflows spoils them while the loss of that batch is still finite.

    Args:
        raise_error: Whether to raise a RuntimeError; otherwise training is asked to stop.
        metrics: Names of what else to look at: of a batch, or of an epoch, such as ``val_loss``.

    Raises:
        SettingError: If ``metrics`` holds anything but names.
    """

    needs: ClassVar[tuple[str, ...]] = ("stop",)
    per_batch: ClassVar[tuple[str, ...]] = ("reads",)

    def __init__(self, raise_error: bool = False, *, metrics: str | Sequence[str] = ()) -> None:
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        if not all(isinstance(name, str) and name for name in names):
            message = f"terminate_on_nan: metrics={metrics!r} are no names."
            raise SettingError(message, fix="names as in the logs: metrics=['val_loss']")
        self.raise_error = raise_error
        self.names = tuple(dict.fromkeys(["loss", *names]))
        self._reset()

    def _reset(self) -> None:
        self._arriving: list[Arriving] = []
        self._missing = set(self.names)
        self._left = self.names
        self._over = False
        self._sound: tuple[int | None, ...] | None = None  # where the weights were last found so

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._reset()
        self.loop.add_check(self._check)

    def on_before_optimizer_step(self, logs: Logs) -> None:
        self._settle()
        self._left = self._look(logs, self.names, self.loop.batch)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if self._left is self.names:  # no step in this batch, or the host has no hook for it
            self._settle()
        if self._left:
            self._look(logs, self._left, batch)
        self._left = self.names

    @hookimpl(tryfirst=True)
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._check()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._settle()
        self._look(logs, self.names, None)
        self._settle()
        if self._missing and not self.loop.stop_training:  # a cut epoch may lack anything
            self._say_missing(logs)

    def _look(self, logs: Logs, names: Iterable[str], batch: int | None) -> tuple[str, ...]:
        """Look at what was reported, or ask for it where it is on an accelerator.

        Returns:
            The names that were not reported.
        """
        left = []
        for name in () if self._over else names:
            value = logs.raw(name)
            if value is None:
                left.append(name)
                continue
            self._missing.discard(name)
            if type(value) is float or getattr(value, "is_cpu", True):
                value = value if type(value) is float else logs[name]
                if not is_finite(value):
                    self._found(self._place(name, batch), value)
            else:
                self._arriving.append(Arriving(self._place(name, batch), value))
        return tuple(left)

    def _place(self, name: str, batch: int | None) -> Place:
        return Place(name, self.loop.epoch or 0, batch)

    def _settle(self) -> None:
        """Look at everything that is on its way; waits for what has not arrived."""
        if not self._arriving:  # nothing ever is on the CPU, and this runs twice a batch
            return
        arriving, self._arriving = self._arriving, []
        for one in arriving:
            value = one.read()
            if not is_finite(value):
                self._found(one.place, value)

    def _check(self) -> None:
        """Look at everything, the weights included: something is about to rely on them."""
        self._settle()
        loop = self.loop
        here = (loop.step, loop.epoch, loop.batch)
        model: Any = loop.model  # None in a loop that was given none
        if self._over or model is None or loop.epoch is None or here == self._sound:
            return
        self._sound = here
        if not are_finite(model.parameters()):
            self._found(self._place("weights", loop.batch), "not finite")

    def _found(self, place: Place, value: Any) -> None:
        if self._over:
            return
        self._over = True
        where = f"epoch {place.epoch}" + (
            f", batch {place.batch}" if place.batch is not None else ""
        )
        verb = "are" if place.name == "weights" else "is"
        self.loop.stop(f"terminate_on_nan: {place.name} {verb} {value} in {where}", failed=True)
        if self.raise_error:
            raise place.error(value)
        self.loop.message(place.line())

    def _say_missing(self, logs: Logs) -> None:
        missing, self._missing = sorted(self._missing), set()
        warn(
            f"terminate_on_nan: {', '.join(missing)} was not reported by the end of this epoch; "
            f"reported: {', '.join(logs)}.\nfix: name one of these in metrics=",
        )
