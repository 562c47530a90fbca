"""Checks of what a callback leaves alone, unless its class declares that it does not."""

from __future__ import annotations

from pathlib import Path

from hookloop.testing.hosts import in_trainer
from hookloop.testing.kit import TRAINED, Check, check, fail
from hookloop.testing.subject import Subject
from hookloop.testing.tiny import TinyLoop
from hookloop.testing.watching import Found, Watcher, model_now


def _seen(subject: Subject, folder: Path) -> Found:
    """Watch one training, evaluation and prediction, once for all of these checks."""
    if "watched" not in subject.memory:
        tiny = TinyLoop()
        before = model_now(tiny.model)
        callback = subject.make(folder)
        watcher = Watcher(callback, tiny)
        in_trainer(tiny, [callback])
        after = model_now(tiny.model)
        if before["hooks"] != after["hooks"] or before["trained"] != after["trained"]:
            watcher.found["model"].append("the run as a whole, which leaves something on it")
        subject.memory["watched"] = watcher.found
    found: Found = subject.memory["watched"]
    return found


def _leaves(name: str, what: str, of: str, told: str) -> Check:
    """Make the check that nothing of one kind is changed."""

    def test(subject: Subject, folder: Path) -> None:
        hooks = _seen(subject, folder).get(what, [])
        if hooks:
            raise fail(
                f"It changes {of} in {', '.join(hooks)}.",
                fix=f'leave it as it is, or declare it in the class: changes = ("{what}",)',
            )

    def applies(subject: Subject) -> bool:
        return what not in subject.changed

    return Check(
        name, f'{told}; not asked of one with `changes = ("{what}",)`.', test, TRAINED, applies
    )


def _in_batches(name: str, what: str, told: str, does: str, fix: str) -> Check:
    """Make the check that batch hooks do not do one thing."""

    def test(subject: Subject, folder: Path) -> None:
        hooks = _seen(subject, folder).get(what, [])
        if hooks:
            declare = f'declare it in the class: per_batch = ("{what}",)'
            raise fail(f"It {does} in {', '.join(hooks)}.", fix=f"{fix}, or {declare}")

    def applies(subject: Subject) -> bool:
        return what not in subject.batch_work

    told = f'{told}; not asked of one with `per_batch = ("{what}",)`.'
    return Check(name, told, test, TRAINED, applies)


@check(*TRAINED, applies=lambda subject: subject.observer)
def observer_keeps_its_promise(subject: Subject, folder: Path) -> None:
    """One with `observer = True` never asks to stop, and declares no change but to the logs."""
    declared = subject.changed - {"logs"}
    if declared:
        message = f"It is an observer, and declares that it changes {', '.join(sorted(declared))}."
        raise fail(message, fix="take away observer = True, or the declaration")
    hooks = _seen(subject, folder).get("stop", [])
    if hooks:
        message = f"It is an observer, and asks the run to stop in {', '.join(hooks)}."
        raise fail(message, fix="take away observer = True")


CHECKS: tuple[Check, ...] = (
    _leaves(
        "leaves_the_model_alone",
        "model",
        "the model",
        "Its hooks leave weights, buffers, gradients and modes of the model as they are",
    ),
    _leaves(
        "leaves_the_optimizer_alone",
        "optimizer",
        "the optimizer",
        "Its hooks leave rates and state of the optimizer as they are",
    ),
    _leaves(
        "leaves_random_numbers_alone",
        "rng",
        "the random numbers",
        "Its hooks draw no random number from a generator that is not its own",
    ),
    _leaves(
        "leaves_logs_alone",
        "logs",
        "the logs",
        "Its hooks add nothing to the logs, and take nothing from them",
    ),
    observer_keeps_its_promise,
    _in_batches(
        "batch_hooks_read_nothing",
        "reads",
        "Its batch hooks read no number from the device",
        "reads a number from the device",
        "use logs.raw(name), and read when the epoch ends",
    ),
    _in_batches(
        "batch_hooks_allocate_nothing",
        "allocates",
        "Its batch hooks allocate no tensor",
        "allocates a tensor",
        "write into one that was made in on_train_begin",
    ),
)
