"""CallbackSuite: the kit as tests for pytest, one a check."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hookloop.errors import ArgumentError, did_you_mean
from hookloop.testing.kit import CheckBlocked, CheckFailed, Kit, checks
from hookloop.testing.subject import Subject

#: How tests end themselves, or all of them: these are for pytest.
_FOR_PYTEST = (pytest.skip.Exception, pytest.fail.Exception, pytest.exit.Exception)


class CallbackSuite:
    """Tests a callback: subclass it in a test module, and name the callback.

    Every check of the kit that applies becomes a test of its own::

        class TestEarlyStopping(CallbackSuite):
            name = "early_stopping"
            settings = {"patience": 1}

    Attributes:
        name: Of the callback, as a user types it, or ``"package.module:Class"``.
        settings: Arguments of its constructor; ``{tmp}`` in a text is a fresh folder.
        refused: Settings, each of which the constructor has to refuse.
        varies: Names in logs, state, files and attributes whose values differ between equal runs,
            as those of clocks, and names of files, with wildcards; where its class does not
            say.
        changes: What it changes, where its class does not say: any of ``"model"``,
            ``"optimizer"``, ``"rng"``, ``"logs"``.
        per_batch: What its batch hooks do, where its class does not say: ``"reads"`` from the
            device, ``"allocates"`` tensors.
        expected_failures: Names of checks that are known to fail, each with the reason. One that
            passes all the same fails.
    """

    name: ClassVar[str] = ""
    settings: ClassVar[Mapping[str, Any]] = {}
    refused: ClassVar[Collection[Mapping[str, Any]]] = ()
    varies: ClassVar[Collection[str] | None] = None
    changes: ClassVar[Collection[str] | None] = None
    per_batch: ClassVar[Collection[str] | None] = None
    expected_failures: ClassVar[Mapping[str, str]] = {}

    _kit: ClassVar[Kit | None] = None
    _running: ClassVar[CallbackSuite]

    def __init_subclass__(cls) -> None:
        known = [one.name for one in checks()]
        for name in cls.expected_failures:
            if name not in known:
                message = f"{cls.__name__}: the kit has no check {name!r} that could fail."
                fix = "see the table in docs/testing-a-plugin.md"
                raise ArgumentError(message + did_you_mean(name, known), fix=fix)
        cls._kit = None

    def make_settings(self, folder: Path) -> Mapping[str, Any]:
        """Give the settings of one instance, in place of ``settings``; override it if need be.

        Args:
            folder: An empty folder, for its files.
        """
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of every check that applies."""
        if "promise" not in metafunc.fixturenames:
            return
        kit = self._of_class()
        applicable = [one.name for one in kit.applicable()]
        for name in self.expected_failures:
            if name not in applicable:
                message = f"{type(self).__name__}: {name} is not asked of {kit.subject.name!r}."
                raise ArgumentError(message, fix="take it out of expected_failures")
        metafunc.parametrize("promise", [self._parameter(name) for name in applicable])
        _counting(metafunc.config).suites[type(self).__name__] = kit

    def test_promise(self, promise: str) -> None:
        """The callback keeps one promise."""
        type(self)._running = self
        result = self._of_class().result(promise)
        if result.status == "blocked":
            raise CheckBlocked(f"blocked: {result.message}")
        if result.status == "failed":
            raise CheckFailed(f"{result.name}: {result.message}\npromise: {result.promise}")

    def _parameter(self, name: str) -> Any:
        reason = self.expected_failures.get(name)
        strict = pytest.mark.xfail(reason=reason or "", strict=True, raises=CheckFailed)
        return pytest.param(name, marks=strict if name in self.expected_failures else ())

    @classmethod
    def _of_class(cls) -> Kit:
        """Give the kit that all tests of this class share."""
        if cls._kit is None:
            if not cls.name:
                message = f"{cls.__name__} does not say which callback it tests."
                raise ArgumentError(message, fix='name = "early_stopping", for instance')
            own = cls.make_settings is not CallbackSuite.make_settings

            def make_settings(folder: Path) -> Mapping[str, Any]:
                return cls._running.make_settings(folder)

            cls._kit = Kit(
                Subject(
                    cls.name,
                    cls.settings,
                    make_settings=make_settings if own else None,
                    refused=cls.refused,
                    varies=cls.varies,
                    changes=cls.changes,
                    per_batch=cls.per_batch,
                ),
                passing=_FOR_PYTEST,
            )
        return cls._kit


class _Counting:
    """Says at the end how many checks were made."""

    def __init__(self) -> None:
        self.suites: dict[str, Kit] = {}

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for suite, kit in self.suites.items():
            terminalreporter.write_line(f"{suite}: {kit.summary()}")


def _counting(config: pytest.Config) -> _Counting:
    found = config.pluginmanager.get_plugin("hookloop-conformance")
    if found is None:
        found = _Counting()
        config.pluginmanager.register(found, "hookloop-conformance")
    assert isinstance(found, _Counting)  # noqa: S101  (nobody else has that name)
    return found
