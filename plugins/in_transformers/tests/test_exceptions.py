"""However a training ends, its callbacks see that, once; the exception goes on as it was."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hookloop_in_transformers import HookloopCallback
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    default_data_collator,
)

from hookloop import Callback
from hookloop.errors import CapabilityError

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
    "on_train_end",
]


def ends(notes: Any) -> list[str]:
    return [call[0] for call in notes.named("on_exception", "on_train_end")]


def fail(loop: Any) -> None:
    raise ZeroDivisionError("spoilt")


@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_callback_raises_ends_the_training(make: Any, hook: str) -> None:
    """It is raised once, with one note that names the callback; the others see the end."""
    notes = make.Notes()
    callback = HookloopCallback([notes, make.Doing(hook, fail)])
    trainer = make.trainer(callback, eval_strategy="epoch")

    with pytest.raises(ZeroDivisionError, match="spoilt") as caught:
        trainer.train()

    [note] = caught.value.__notes__
    assert note.startswith(f"raised by callback 'doing' in {hook}")
    wanted = {"on_train_begin": [], "on_train_end": ["on_train_end"]}  # the notes come last in it
    assert ends(notes) == wanted.get(hook, ["on_exception", "on_train_end"])
    assert callback.history.outcome == "failed"


@pytest.mark.parametrize("hook", HOOKS)
def test_an_observer_that_fails_is_turned_off(make: Any, hook: str) -> None:
    """One warning, and the training goes on."""
    watching = make.Doing(hook, fail)
    watching.observer = True
    callback = HookloopCallback(watching)
    trainer = make.trainer(callback, num_train_epochs=1, eval_strategy="epoch")

    with pytest.warns(RuntimeWarning, match=f"doing failed in {hook}"):
        trainer.train()

    assert callback.history.outcome == "finished"
    assert trainer.state.global_step == 10


def test_the_policy_for_failures_is_that_of_fit(make: Any) -> None:
    """on_callback_error="disable" turns any callback off."""
    callback = HookloopCallback(make.Doing("on_epoch_end", fail), on_callback_error="disable")

    with pytest.warns(RuntimeWarning, match="doing failed in on_epoch_end"):
        make.trainer(callback, num_train_epochs=1).train()

    assert callback.history.outcome == "finished"


class Broken:
    """Something of the Trainer's own that fails at the third call."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.calls = error, 0

    def __call__(self, *args: Any, **about: Any) -> None:
        self.calls += 1
        if self.calls == 3:
            raise self.error


class BrokenCallback(TrainerCallback):
    def __init__(self, broken: Broken) -> None:
        self.on_step_end = broken


@pytest.mark.parametrize("place", ["model", "data", "callback", "evaluation"])
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_what_anything_else_raises_ends_the_training(
    make: Any, place: str, kind: type[BaseException]
) -> None:
    """on_exception and on_train_end, once, though the Trainer has no event for it."""
    notes, broken = make.Notes(), Broken(kind("spoilt"))
    callback = HookloopCallback(notes)
    others = [BrokenCallback(broken)] if place == "callback" else []
    trainer = make.trainer(callback, others=others, eval_strategy="epoch")
    if place == "model":
        trainer.model.register_forward_pre_hook(broken)
    elif place == "data":
        trainer.data_collator = lambda rows: broken() or default_data_collator(rows)
    elif place == "evaluation":
        trainer.model.register_forward_pre_hook(
            lambda module, _: None if module.training else broken()
        )

    with pytest.raises(kind, match="spoilt") as caught:
        trainer.train()

    assert ends(notes) == ["on_exception", "on_train_end"]
    assert not getattr(caught.value, "__notes__", [])
    wanted = "failed" if isinstance(caught.value, Exception) else "interrupted"
    assert callback.history.outcome == wanted


def test_a_trainer_can_train_again_after_an_exception(make: Any) -> None:
    """From the beginning, with all counters."""
    notes, broken = make.Notes(), Broken(ZeroDivisionError("spoilt"))
    callback = HookloopCallback(notes)
    trainer = make.trainer(callback, others=[BrokenCallback(broken)], num_train_epochs=1)
    with pytest.raises(ZeroDivisionError):
        trainer.train()

    trainer.train()

    assert callback.history.outcome == "finished"
    assert ends(notes) == ["on_exception", "on_train_end", "on_train_end"]
    assert [call[1] for call in notes.named("on_train_batch_end")] == [0, 1, 2, *range(10)]


def test_a_training_that_the_trainer_begins_again_is_another_run(make: Any) -> None:
    """auto_find_batch_size: the run that ran out of memory has failed, the next one is fresh."""
    notes = make.Notes()
    broken = Broken(RuntimeError("CUDA out of memory."))
    callback = HookloopCallback(notes)
    trainer = make.trainer(callback, num_train_epochs=1, auto_find_batch_size=True)
    trainer.model.register_forward_pre_hook(broken)

    trainer.train()

    assert ends(notes) == ["on_exception", "on_train_end", "on_train_end"]
    batches = [call[1] for call in notes.named("on_train_batch_end")]
    assert batches[:2] == [0, 1]
    assert batches[2:] == list(range(len(batches) - 2))
    assert sum(logs["size"] for logs in notes.logs("on_train_batch_end")[2:]) == 160
    assert callback.history.outcome == "finished"


# -- a callback that is added late ---------------------------------------------------------------


def late(make: Any, callback: HookloopCallback, *others: Any) -> Any:
    trainer = make.trainer(HookloopCallback(), others=others, num_train_epochs=1)
    trainer.add_callback(callback)
    return trainer


def test_a_callback_that_is_added_late_is_run(make: Any) -> None:
    """By trainer.add_callback."""
    notes = make.Notes()

    late(make, HookloopCallback(notes)).train()

    assert len(notes.named("on_train_batch_end")) == 10
    assert ends(notes) == ["on_train_end"]


@pytest.mark.parametrize("then", ["train", "evaluate", "predict"])
def test_a_late_callback_learns_at_its_next_use_that_its_first_training_failed(
    make: Any, then: str
) -> None:
    """The method that it would have to surround was under way already."""
    notes, broken = make.Notes(), Broken(ZeroDivisionError("spoilt"))
    trainer = late(make, HookloopCallback(notes), BrokenCallback(broken))
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert ends(notes) == []

    arguments = [make.data("validation")] if then == "predict" else []
    getattr(trainer, then)(*arguments)

    assert ends(notes)[:2] == ["on_exception", "on_train_end"]


class Careful(Callback):
    needs = ("exception",)


def test_who_has_to_see_exceptions_is_refused_where_they_are_not_seen(make: Any) -> None:
    """Passed to the Trainer it runs; added late it is refused, before the first step."""
    make.trainer(Careful(), num_train_epochs=1).train()

    trainer = late(make, HookloopCallback(Careful()))
    with pytest.raises(CapabilityError, match=r"careful needs exception.*\nfix: run it in"):
        trainer.train()
    assert trainer.state.global_step == 0


class Evaluating(Callback):
    needs = ("evaluate",)


def test_what_the_trainer_cannot_do_is_refused_before_training(make: Any) -> None:
    """With the loops that can."""
    trainer = make.trainer(Evaluating())

    with pytest.raises(CapabilityError, match=r"evaluating needs evaluate.*\nfix: run it in: Tr"):
        trainer.train()

    assert trainer.state.global_step == 0


class Nesting(Trainer):
    """Trains another trainer before it is one itself."""

    def __init__(self, inner: Trainer) -> None:
        inner.train()


def test_a_trainer_may_be_run_by_one_that_is_being_made(make: Any) -> None:
    """The one whose event it is is told from the other."""
    notes = make.Notes()

    Nesting(late(make, HookloopCallback(notes)))

    assert len(notes.named("on_train_batch_end")) == 10


def test_an_event_of_no_trainer_is_refused() -> None:
    """A loop that calls the Trainer's events itself has none of the rest."""
    with pytest.raises(CapabilityError, match=r"no transformers.Trainer.*\nfix: "):
        HookloopCallback().on_train_begin(None, TrainerState(), TrainerControl())


# -- the object itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_is_another_callback_with_the_same_choice(make: Any, twin: Any) -> None:
    """Though its class makes one object only; a run stays with the original."""
    callback = HookloopCallback(["early_stopping:monitor=loss"], name="one")
    make.trainer(callback, num_train_epochs=1).train()

    copied = twin(callback)

    assert copied is not callback
    assert isinstance(copied, HookloopCallback)
    assert copied.history is None
    assert copied.bridge.names == ["early_stopping"]
    make.trainer(copied, num_train_epochs=1).train()
    assert copied.history.epoch == [0]


def test_one_callback_may_go_from_trainer_to_trainer(make: Any) -> None:
    """As in cross-validation; it belongs to the one it was passed to last."""
    notes = make.Notes()
    callback = HookloopCallback(notes)
    first = make.trainer(callback, num_train_epochs=1)
    second = make.trainer(callback, num_train_epochs=1)
    names = []
    for trainer in (first, second, first):
        trainer.train()
        names.append(notes.names())
        notes.calls.clear()

    assert names[0] == names[1] == names[2]
    assert names[0].count("on_train_batch_end") == 10


def test_a_missing_framework_is_named_with_its_pip_line() -> None:
    """When the package is imported, in a fresh process."""
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "try:\n    import hookloop_in_transformers\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == (
        'fix: pip install "hookloop-in-transformers[transformers]"'
    )
