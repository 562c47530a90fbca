"""What is tested: a callback by its name, its settings, and what it declares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import hookloop
from hookloop import discovery
from hookloop.annotations import accepts
from hookloop.callback import constructor
from hookloop.describe import class_of
from hookloop.discovery import Plugin
from hookloop.errors import SettingError, did_you_mean, listed
from hookloop.selection import parse, resolve

#: What a callback may change, if its class says so in `changes`.
CHANGES = ("model", "optimizer", "rng", "logs")
#: What its batch hooks may do, if its class says so in `per_batch`.
PER_BATCH = ("reads", "allocates")
#: Stands for a fresh folder in the text of a setting.
FOLDER = "{tmp}"


@dataclass(frozen=True)
class Subject:
    """A callback that is tested.

    Args:
        reference: Its name, ``distribution/name``, or ``package.module:Class``.
        settings: Arguments of its constructor; ``{tmp}`` in a text is a fresh folder. Paths that
            are not given, but required or text by default, are put there too.
        make_settings: Gives the settings for a folder, in place of `settings`.
        refused: Settings, each of which the constructor has to refuse.
        varies: Names in logs, state, files and attributes whose values differ between equal runs,
            as those of clocks, and names of files, with wildcards; as its class declares,
            unless given.
        changes: What it changes; as its class declares, unless given.
        per_batch: What its batch hooks do; as its class declares, unless given.
    """

    reference: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    make_settings: Callable[[Path], Mapping[str, Any]] | None = None
    refused: Collection[Mapping[str, Any]] = ()
    varies: Collection[str] | None = None
    changes: Collection[str] | None = None
    per_batch: Collection[str] | None = None
    memory: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for what, given, allowed in (
            ("changes", self.changes, CHANGES),
            ("per_batch", self.per_batch, PER_BATCH),
        ):
            _refuse_unknown(f"The suite of {self.name!r}", what, given or (), allowed)

    @property
    def name(self) -> str:
        """What a user types, without owner and settings."""
        return parse(self.reference)[0].rpartition("/")[2]

    @property
    def packaged(self) -> bool:
        """Whether it is chosen by a name, and so has to be installed under that."""
        return ":" not in parse(self.reference)[0]

    @cached_property
    def plugin(self) -> Plugin:
        """The entry point behind the name."""
        owner, _, name = parse(self.reference)[0].rpartition("/")
        return discovery.find(name, owner or None)

    @cached_property
    def factory(self) -> Callable[..., Any]:
        """The class, or the function that makes one."""
        return resolve(parse(self.reference)[0])[0]

    def filled(self, folder: Path) -> dict[str, Any]:
        """Give the settings for a run whose files belong into a folder."""
        if self.make_settings is not None:
            return dict(self.make_settings(folder))
        settings = {**parse(self.reference)[1], **self.settings}
        filled = {name: _filled(value, folder) for name, value in settings.items()}
        for name, parameter in constructor(self.factory).parameters.items():
            default = name if parameter.default is parameter.empty else parameter.default
            is_path = "Path" in str(parameter.annotation) and accepts(parameter.annotation, folder)
            if is_path and isinstance(default, str) and name not in filled:
                filled[name] = str(folder / default)
        return filled

    def make(self, folder: Path) -> Any:
        """Make an instance whose files belong into a folder, which is made too."""
        folder.mkdir(parents=True, exist_ok=True)
        return hookloop.load(parse(self.reference)[0], **self.filled(folder))

    # -- what it declares ------------------------------------------------------------------

    @property
    def observer(self) -> bool:
        """Whether its class promises to leave the run alone."""
        return bool(self._declared("observer", False))

    @property
    def changed(self) -> frozenset[str]:
        """What it declares to change, among `CHANGES`."""
        return self._flags("changes", self.changes, CHANGES)

    @property
    def batch_work(self) -> frozenset[str]:
        """What it declares that its batch hooks do, among `PER_BATCH`."""
        return self._flags("per_batch", self.per_batch, PER_BATCH)

    @property
    def varying(self) -> frozenset[str]:
        """Names of values, and of files, that differ between equal runs."""
        found = self._declared("varies", ()) if self.varies is None else self.varies
        return frozenset((found,) if isinstance(found, str) else found)

    @property
    def needs(self) -> tuple[str, ...]:
        """Features of the loop without which it refuses to run."""
        return tuple(self._declared("needs", ()))

    def _declared(self, name: str, default: Any) -> Any:
        return getattr(class_of(self.factory), name, default)

    def _flags(
        self, name: str, given: Collection[str] | None, allowed: tuple[str, ...]
    ) -> frozenset[str]:
        found = self._declared(name, ()) if given is None else given
        found = (found,) if isinstance(found, str) else found
        _refuse_unknown(f"The class of {self.name!r}", name, found, allowed)
        return frozenset(found)


def _refuse_unknown(who: str, what: str, given: Collection[str], allowed: tuple[str, ...]) -> None:
    for word in given:
        if word not in allowed:
            message = f"{who} declares {what} = {word!r}.{did_you_mean(word, allowed)}"
            raise SettingError(message, fix=f"any of: {listed(allowed)}")


def _filled(value: Any, folder: Path) -> Any:
    if isinstance(value, str):  # of the same kind still: one from a command line is read later
        return type(value)(value.replace(FOLDER, str(folder)))
    if isinstance(value, Mapping):
        return {name: _filled(item, folder) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(item, folder) for item in value)
    return value
