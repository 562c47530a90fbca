"""Kit: the list of checks, and running them on one callback."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hookloop import rng
from hookloop.arguments import ADD, REMOVE
from hookloop.errors import ArgumentError, did_you_mean, listed
from hookloop.testing.subject import Subject

Status = Literal["passed", "failed", "blocked"]
Test = Callable[[Subject, Path], None]


class CheckFailed(AssertionError):  # noqa: N818  (no error of the program)
    """A callback breaks a promise; the message ends with a ``fix:`` line."""


class CheckBlocked(AssertionError):  # noqa: N818
    """A check cannot be made, because one that it relies on failed."""


def fail(message: str, *, fix: str) -> CheckFailed:
    """Make the error of a check that failed: what was seen, and what to do."""
    return CheckFailed(f"{message}\nfix: {fix}")


def stopped_at_once(before: str) -> CheckFailed:
    """Make the error of a check whose run was over before there was anything to see."""
    message = f"It stops the run before {before}, so that nothing can be checked."
    return fail(message, fix="give settings under which it does not stop at once")


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: Its name, also in ``expected_failures``.
        promise: What it checks, in one line.
        test: Raises if the promise is broken; is given the subject and an empty folder, which is
            the current one too.
        after: Checks that have to pass before this one can be made.
        applies: Whether the subject makes this promise at all.
    """

    name: str
    promise: str
    test: Test
    after: tuple[str, ...] = ()
    applies: Callable[[Subject], bool] = lambda subject: True


@dataclass(frozen=True)
class Result:
    """What came of one check; ``message`` is empty if it passed."""

    name: str
    promise: str
    status: Status
    message: str = ""


#: What every check that trains relies on.
MADE, HOOKED, TRAINED = ("can_be_made",), ("hooks_are_valid",), ("runs_in_trainer",)


def check(
    *after: str, applies: Callable[[Subject], bool] = lambda subject: True
) -> Callable[[Test], Check]:
    """Make a check of a function; its name and the first line of its docstring are the check's."""

    def make(test: Test) -> Check:
        promise = (test.__doc__ or "").partition("\n")[0]
        return Check(test.__name__, promise, test, after, applies)

    return make


def checks() -> tuple[Check, ...]:
    """Give all checks, in the order in which they are made."""
    from hookloop.testing import packaging, readme, restarting, running, tidiness, untouched

    return (
        *packaging.CHECKS,
        *running.CHECKS,
        *tidiness.CHECKS,
        *restarting.CHECKS,
        *untouched.CHECKS,
        *readme.CHECKS,
    )


class Kit:
    """The checks of one callback, each made once, when it is asked for.

    Args:
        subject: The callback.
        passing: Exceptions that are no findings: with them whoever makes the checks ends them.
    """

    def __init__(self, subject: Subject, passing: tuple[type[BaseException], ...] = ()) -> None:
        self.subject = subject
        self._passing: tuple[type[BaseException], ...] = (KeyboardInterrupt, *passing)
        self._checks = {one.name: one for one in checks()}
        self._results: dict[str, Result] = {}

    def applicable(self) -> list[Check]:
        """Give the checks of promises that the subject makes; of a broken one all."""

        def applies(one: Check) -> bool:
            try:
                return one.applies(self.subject)
            except self._passing:
                raise
            except BaseException:  # it cannot be imported, which is for a check to say
                return True

        return [one for one in self._checks.values() if applies(one)]

    def results(self) -> Iterator[Result]:
        """Make every applicable check."""
        for one in self.applicable():
            yield self.result(one.name)

    def summary(self) -> str:
        """Say how many checks were made so far, and what came of them."""
        made = [one.status for one in self._results.values()]
        counts = [(made.count(status), status) for status in ("passed", "failed", "blocked")]
        told = ", ".join(f"{count} {status}" for count, status in counts if count)
        return f"{len(made)} checks of {self.subject.name}: {told or 'none was made'}"

    def result(self, name: str) -> Result:
        """Make one check, and those that it relies on."""
        if name not in self._checks:
            message = f"The kit has no check {name!r}.{did_you_mean(name, self._checks)}"
            raise ArgumentError(message, fix="see docs/testing-a-plugin.md")
        if name not in self._results:
            self._results[name] = self._made(self._checks[name])
        return self._results[name]

    def _broken(self, one: Check) -> list[str]:
        """Tell what failed of all that a check relies on, by way of others too."""
        known = {check.name for check in self.applicable()}
        found: dict[str, None] = {}
        for name in one.after:
            if name in known and self.result(name).status != "passed":
                found |= dict.fromkeys(self._broken(self._checks[name]) or [name])
        return list(found)

    def _made(self, one: Check) -> Result:
        broken = self._broken(one)
        if broken:
            message = f"it cannot be made while {listed(broken)} fails"
            return Result(one.name, one.promise, "blocked", message)
        try:
            with _apart() as folder:
                one.test(self.subject, folder)
        except self._passing:
            raise
        except BaseException as error:  # SystemExit too, or it would end the checks as if in order
            return Result(one.name, one.promise, "failed", _told(error))
        return Result(one.name, one.promise, "passed")


def _told(error: BaseException) -> str:
    if isinstance(error, CheckFailed):
        return str(error)
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    text = f"{type(error).__name__}: {error}{notes}"
    return text if "\nfix: " in text else f"{text}\nfix: mend what raises this"


@contextlib.contextmanager
def _without_variables() -> Iterator[None]:
    """Set aside the variables that add callbacks to a run, or remove some."""
    kept = {name: os.environ.pop(name) for name in (ADD, REMOVE) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def _apart() -> Iterator[Path]:
    """Run a check in an empty current folder, unheard, with random numbers of its own.

    Raises:
        CheckFailed: For a warning that does not say what to do.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hookloop-check-") as folder,
        contextlib.chdir(folder),
        _without_variables(),
        rng.fork(),
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("always")
        yield Path(folder).resolve()
    for one in caught:
        text = str(one.message)
        if "is off for the rest of this run" in text:
            raise fail(f"It failed and was turned off: {text}", fix="mend what raises this")
        if "fix:" not in text:
            where = f"{Path(one.filename).name}:{one.lineno}"
            message = f"It leads to a warning ({where}): {one.category.__name__}: {text}"
            raise fail(message, fix="mend the cause; one for the user ends with a `fix:` line")
