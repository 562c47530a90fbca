"""Exceptions in Lightning: of callbacks, of the module, of the user at the keyboard."""

from __future__ import annotations

import pytest
from hookloop_in_lightning import HookloopCallback
from lightning_runs import Regression, few, fit, trainer

from hookloop import Callback


class Fails(Callback):
    """Raises in one hook."""

    def __init__(self, hook: str, error: BaseException | None = None) -> None:
        self.count = 0
        setattr(self, hook, lambda: self._raise(error or ValueError("broken")))

    def _raise(self, error: BaseException) -> None:
        self.count += 1
        raise error


class Ends(Callback):
    """Notes how a run ends."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_exception(self, exception) -> None:
        self.seen.append(type(exception).__name__)

    def on_train_end(self, loop) -> None:
        self.seen.append(loop.outcome)


HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_batch_checkpoint",
    "on_test_begin",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_end",
    "on_epoch_end",
    "on_epoch_checkpoint",
]


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_of_a_callback_ends_the_run_once_with_its_note(hook: str) -> None:
    """It keeps its type, and names the callback and hook once; everyone sees the end once."""
    fails, ends = Fails(hook), Ends()

    with pytest.raises(ValueError, match="broken") as caught:
        fit([ends, fails])

    notes = [n for n in caught.value.__notes__ if n.startswith("raised by callback")]
    assert len(notes) == 1
    assert notes[0].startswith(f"raised by callback 'fails' in {hook}")
    assert fails.count == 1
    assert ends.seen == ["ValueError", "failed"]


def test_an_exception_at_the_end_of_training_is_raised_once() -> None:
    """on_train_end of the others has run."""
    ends = Ends()

    with pytest.raises(ValueError, match="broken") as caught:
        fit([Fails("on_train_end"), ends], max_epochs=1)

    assert [note.split(" in ")[0] for note in caught.value.__notes__] == [
        "raised by callback 'fails'"
    ]
    assert ends.seen == ["failed"]


def test_an_observer_that_fails_is_turned_off_and_training_goes_on() -> None:
    """One warning, no exception."""

    class Watches(Callback):
        observer = True

        def on_train_batch_end(self):
            raise ValueError("broken")

    with pytest.warns(RuntimeWarning, match="watches failed in on_train_batch_end"):
        callback = fit([Watches()])

    assert callback.history.epoch == [0, 1, 2]


def test_the_policy_can_turn_any_callback_off() -> None:
    """on_callback_error="disable" is that of hookloop's fit."""
    bridge = HookloopCallback([Fails("on_epoch_end")], on_callback_error="disable")
    with pytest.warns(RuntimeWarning, match="fails failed in on_epoch_end"):
        trainer((bridge,)).fit(Regression(), few(), few(16))

    assert bridge.history.epoch == [0, 1, 2]


class Breaks(Regression):
    """Raises in the third batch."""

    error: BaseException = ZeroDivisionError("of the module")

    def training_step(self, batch, batch_idx):
        if batch_idx == 2:
            raise self.error
        return super().training_step(batch, batch_idx)


def test_an_exception_of_the_module_reaches_the_callbacks_once() -> None:
    """on_exception, then on_train_end; the history tells, and is there."""
    ends = Ends()
    made = trainer([ends])

    with pytest.raises(ZeroDivisionError, match="of the module"):
        made.fit(Breaks(), few(), few(16))

    assert ends.seen == ["ZeroDivisionError", "failed"]
    assert made.callbacks[0].history.outcome == "failed"


def test_a_keyboard_interrupt_becomes_lightnings_exit_and_is_an_interruption() -> None:
    """Lightning makes SystemExit of it; callbacks see what it was."""
    ends, module = Ends(), Breaks()
    module.error = KeyboardInterrupt()

    with pytest.raises(SystemExit) as caught:
        trainer([ends]).fit(module, few(), few(16))

    assert caught.value.code == 1
    assert ends.seen == ["KeyboardInterrupt", "interrupted"]


def test_an_exception_in_a_validation_of_the_run_ends_the_test_too() -> None:
    """Whoever saw on_test_begin sees on_test_end."""

    class SeesTests(Ends):
        def on_test_begin(self):
            self.seen.append("test_begin")

        def on_test_end(self):
            self.seen.append("test_end")

    class Broken(Regression):
        def validation_step(self, batch, batch_idx):
            raise ZeroDivisionError

    ends = SeesTests()
    with pytest.raises(ZeroDivisionError):
        fit([ends], module=Broken(), num_sanity_val_steps=0)

    assert ends.seen == ["test_begin", "test_end", "ZeroDivisionError", "failed"]


def test_a_run_after_one_that_failed_is_a_new_one() -> None:
    """Nothing of the failed run is left."""
    made, ends = trainer([Ends()]), Ends()
    with pytest.raises(ZeroDivisionError):
        made.fit(Breaks(), few(), few(16))

    fit([ends])

    assert ends.seen == ["finished"]
