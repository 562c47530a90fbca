"""Checks of runs: in every host, one after the other, side by side, and with odd data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hookloop.callback_list import CallbackList
from hookloop.capabilities import HOSTS as FEATURES
from hookloop.errors import CapabilityError
from hookloop.testing.hosts import HOSTS, Drive, batch_by_batch
from hookloop.testing.kit import HOOKED, TRAINED, Check, check, fail
from hookloop.testing.runs import Outcome, outcome, require_same
from hookloop.testing.subject import Subject
from hookloop.testing.tiny import TinyLoop
from hookloop.testing.written import own_folder


def _runs_in(host: str, drive: Drive) -> Check:
    """Make the check of one host."""

    def test(subject: Subject, folder: Path) -> None:
        callback = subject.make(folder)
        lacking = [need for need in subject.needs if need not in FEATURES[host]]
        try:
            drive(TinyLoop(), [callback])
        except CapabilityError:
            if not lacking:
                raise
            return
        if lacking:
            message = f"It needs {', '.join(lacking)}, and {host} runs it all the same."
            raise fail(message, fix="take it out of `needs`")

    name = "_".join(["runs_in", *_words(host)])
    what = {"Trainer": "A whole training, evaluation and prediction"}.get(host, "A whole training")
    promise = f"{what} in {host} ends without an error or a warning"
    unless = "" if host == "Trainer" else ", or is refused for what its `needs` say"
    return Check(name, f"{promise}{unless}.", test, HOOKED)


def _words(name: str) -> list[str]:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).split()


def _in_callback_list(subject: Subject) -> bool:
    return bool(FEATURES["CallbackList"].issuperset(subject.needs))


@check(*TRAINED)
def is_deterministic(subject: Subject, folder: Path) -> None:
    """Two equal runs with two equal instances end the same, files too, but for what `varies`."""
    found = []
    for _ in range(2):
        with own_folder(folder) as place:
            tiny, callback = TinyLoop(), subject.make(place)
            found.append(outcome(tiny, callback, place, tiny.fit([callback])))
    require_same(
        found[0],
        found[1],
        subject.varying,
        "Two equal runs end differently",
        "take out what depends on time, order or chance, or name it in `varies`",
    )


@check("is_deterministic")
def runs_twice(subject: Subject, folder: Path) -> None:
    """One instance serves two runs, and the second ends as with a fresh one, but for its files."""
    callback, fresh = subject.make(folder / "1"), subject.make(folder / "2")
    first = TinyLoop()
    first.fit([callback])
    found = []
    for own, place in ((callback, folder / "1"), (fresh, folder / "2")):
        tiny = TinyLoop()  # what it finds in its folder may make a difference to its files
        found.append(outcome(tiny, own, place, tiny.fit([own]), files=False))
    require_same(
        found[1],
        found[0],
        subject.varying,
        "The second run of one instance is not as the first of a fresh one",
        "reset in on_train_begin what belongs to a run",
    )


@check("is_deterministic", "runs_in_callback_list")
def runs_beside_another(subject: Subject, folder: Path) -> None:
    """Two instances serve one run; and two runs that take turns end as each would alone."""
    TinyLoop().fit([subject.make(folder / "a"), subject.make(folder / "b")])
    if not _in_callback_list(subject):
        return
    found = []
    for seeds in ([1], [2], [1, 2]):
        with own_folder(folder) as place:
            found += _by_turns(subject, place, seeds)
    for one, other in zip(found[:2], found[2:], strict=True):
        require_same(
            one,
            other,
            subject.varying,
            "Beside another instance a run does not end as it does alone",
            "keep what belongs to a run on the instance, not on the class or in the module",
        )


def _by_turns(subject: Subject, folder: Path, seeds: list[int]) -> list[Outcome]:
    # Without dropout, as the runs would draw from one generator in turns.
    loops = [TinyLoop(seed=seed, dropout=0.0) for seed in seeds]
    places = [folder / str(seed) for seed in seeds]
    callbacks = [subject.make(place) for place in places]
    running: list[Any] = [
        batch_by_batch(tiny, [one]) for tiny, one in zip(loops, callbacks, strict=True)
    ]
    while running:
        running = [run for run in running if next(run, None) is not None]
    return [
        outcome(tiny, one, place, None)
        for tiny, one, place in zip(loops, callbacks, places, strict=True)
    ]


@check("runs_in_trainer", "runs_in_callback_list")
def zero_batches(subject: Subject, folder: Path) -> None:
    """It comes through a run of no epoch, and through epochs and tests without a batch."""
    TinyLoop(epochs=0).fit([subject.make(folder / "none")])
    if not _in_callback_list(subject):
        return
    tiny = TinyLoop()
    callback = subject.make(folder / "empty")
    hooks = CallbackList([callback], model=tiny.model, optimizer=tiny.optimizer)
    hooks.on_train_begin()
    for epoch in range(2):
        hooks.on_epoch_begin(epoch)
        hooks.on_test_begin()
        hooks.on_test_end({})
        hooks.on_epoch_end(epoch, {})
    hooks.on_train_end()


@check(*TRAINED)
def one_batch(subject: Subject, folder: Path) -> None:
    """It comes through a training, evaluation and prediction of a single batch."""
    HOSTS["Trainer"](TinyLoop(epochs=1, samples=4), [subject.make(folder)])


@check(*TRAINED)
def no_validation(subject: Subject, folder: Path) -> None:
    """It comes through a training without validation; what it misses, it warns of with a fix."""
    TinyLoop(validation=False).fit([subject.make(folder)])


@check(*TRAINED)
def nan_metrics(subject: Subject, folder: Path) -> None:
    """It comes through a training in which the loss and every metric are NaN."""
    HOSTS["Trainer"](TinyLoop(nan=True), [subject.make(folder)])


CHECKS: tuple[Check, ...] = (
    *(_runs_in(host, drive) for host, drive in HOSTS.items()),
    is_deterministic,
    runs_twice,
    runs_beside_another,
    zero_batches,
    one_batch,
    no_validation,
    nan_metrics,
)
