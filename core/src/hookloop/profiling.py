"""Profiling: how long each hook of each callback takes, and who takes too much of a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hookloop.implementations import Implementation
from hookloop.tables import table

#: Share of a step above which a callback is named.
MUCH = 0.05
#: Steps between two looks at who takes much.
EVERY = 100
_STEP_HOOKS = (
    "on_train_batch_begin",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_batch_checkpoint",
)


@dataclass
class Spent:
    """Time that went into one hook of one callback: calls, and seconds of all of them."""

    calls: int = 0
    seconds: float = 0.0


class Profile:
    """Adds up what the hooks of a run take, each without what it has others do meanwhile.

    A hook that reads a number from an accelerator waits for it, and that is its time, too.

    Attributes:
        spent: For each callback and hook, by their names.
        steps: Training batches so far.
        step_seconds: What they took, from the end of one to the end of the next.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], Spent] = {}
        self.steps, self.step_seconds = 0, 0.0
        self._inside = 0.0  # what others took within the hook that is running
        self._began = self._mark = self.clock()
        self._told: set[str] = set()
        self._notes: dict[str, Callable[[Any], None]] = {
            "on_train_begin": self._begin,
            "on_epoch_begin": self._epoch,
            "on_train_batch_end": self._step,
            "on_epoch_end": self._judge,
            "on_train_end": self._end,
        }

    def timed(self, one: Implementation) -> Implementation:
        """Give an implementation that does the same, and is measured."""
        spent = self.spent.setdefault((one.owner, one.hook), Spent())

        def call(*args: Any, **kwargs: Any) -> Any:
            spent.calls += 1
            if one.wrapper:
                return _Timed(one.function(*args, **kwargs), self, spent)
            return self.measure(spent, one.function, *args, **kwargs)

        return replace(one, function=call)

    def measure(self, spent: Spent, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, and add what it takes itself."""
        outer, self._inside = self._inside, 0.0
        began = self.clock()
        try:
            return function(*args, **kwargs)
        finally:
            whole = self.clock() - began
            spent.seconds += whole - self._inside
            self._inside = outer + whole

    def noting(self, hook: str, call: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """Give a call of a hook that lets the profile know where the run is."""
        note = self._notes.get(hook)
        if note is None:
            return call

        def noted(loop: Any, *args: Any) -> None:
            try:
                if call is not None:
                    call(loop, *args)
            finally:
                note(loop)

        return noted

    def __str__(self) -> str:
        """Lay out who took what, the longest first, and what is left for the training itself."""
        whole = self.clock() - self._began
        used = sorted(self.spent.items(), key=lambda item: -item[1].seconds)
        rows = [("callback", "hook", "calls", "a call", "in all", "share")]
        rows += [
            (*who, str(one.calls), _of(one.seconds, one.calls), _told(one.seconds),
             f"{one.seconds / whole:.1%}")
            for who, one in used if one.calls
        ]  # fmt: skip
        rest = whole - sum(one.seconds for one in self.spent.values())
        rows.append(("(everything else)", "", "", "", _told(rest), f"{rest / whole:.1%}"))
        step = _of(self.step_seconds, self.steps)
        return (
            f"Time of the callbacks in a run of {_told(whole)}; a step takes {step}\n{table(rows)}"
        )

    def _begin(self, loop: Any) -> None:
        self._began = self.clock() - sum(one.seconds for one in self.spent.values())

    def _epoch(self, loop: Any) -> None:
        self._mark = self.clock()

    def _step(self, loop: Any) -> None:
        now = self.clock()
        self.step_seconds += now - self._mark
        self._mark, self.steps = now, self.steps + 1
        if not self.steps % EVERY:
            self._judge(loop)

    def _judge(self, loop: Any) -> None:
        """Name, once, each callback that takes much of a step."""
        if not self.steps:
            return
        of: dict[str, dict[str, float]] = {}
        for (owner, hook), one in self.spent.items():
            if hook in _STEP_HOOKS:
                of.setdefault(owner, {})[hook] = one.seconds
        for owner, hooks in of.items():
            seconds = sum(hooks.values())
            if owner in self._told or seconds <= MUCH * self.step_seconds:
                continue
            self._told.add(owner)
            step, own = _of(self.step_seconds, self.steps), _of(seconds, self.steps)
            loop.message(
                f"{owner} takes {seconds / self.step_seconds:.0%} of a step: {own} of {step}, most "
                f"of it in {max(hooks, key=lambda hook: hooks[hook])}.\n"
                "fix: do less in it, or do it every hundred batches"
            )

    def _end(self, loop: Any) -> None:
        self._judge(loop)
        loop.message(str(self))


class _Timed:
    """A wrapper's generator, each part of which is measured."""

    def __init__(self, generator: Any, profile: Profile, spent: Spent) -> None:
        self._generator, self._profile, self._spent = generator, profile, spent

    def __next__(self) -> Any:
        return self._profile.measure(self._spent, next, self._generator)

    def send(self, value: Any) -> Any:
        return self._profile.measure(self._spent, self._generator.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._profile.measure(self._spent, self._generator.throw, error)


def _of(seconds: float, number: int) -> str:
    return _told(seconds / number) if number else "-"


def _told(seconds: float) -> str:
    """Write a time with three digits, in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
