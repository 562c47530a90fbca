"""What a callback is: its settings, hooks and state, read from its class and its README."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hookloop import discovery, hookspecs
from hookloop.callback import constructor
from hookloop.discovery import Plugin
from hookloop.implementations import implementations
from hookloop.registry import Registry
from hookloop.selection import parse, resolve

_SECTION = re.compile(r"^(\w+):\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^(\*{0,2}\w+)(?: \([^)]*\))?:[ \n]")
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_STATE = re.compile(r"^\*\*State saved:?\*\*:?(.*?)(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_BARE = re.compile(r"[\w./+-]+")


@dataclass(frozen=True)
class Setting:
    """One argument of a callback's constructor.

    Attributes:
        name: As it is written; ``**name`` for any further ones, and for a group of settings that
            the docstring tells of together.
        type: Its annotation, empty where there is none.
        default: Source text of the default; None where the setting is required.
        unit: What a number counts, empty where that is not stated.
        meaning: What the docstring says of it.
    """

    name: str
    type: str
    default: str | None
    unit: str
    meaning: str


@dataclass(frozen=True)
class Hook:
    """One hook that a callback implements; ``order`` is ``tryfirst``, ``trylast`` or empty."""

    name: str
    order: str


@dataclass(frozen=True)
class Description:
    """What ``hookloop info`` shows of one callback."""

    name: str
    distribution: str
    version: str
    object: str
    purpose: str
    settings: tuple[Setting, ...]
    hooks: tuple[Hook, ...]
    observer: bool
    state: str
    attributes: dict[str, str]
    by_name: str
    example: str


def describe(reference: str) -> Description:
    """Describe one callback; this imports it.

    Args:
        reference: Its name, ``distribution/name``, or ``package.module:Class``. Settings are
            passed over.

    Raises:
        HookloopError: If there is none, if it cannot be imported, or if a hook of it is wrong.
    """
    reference, _ = parse(reference)
    factory, who = resolve(reference)
    plugin = _plugin(reference)
    text = _own_readme(plugin) if plugin else ""
    cls = class_of(factory)
    sections = _sections(_docstring(factory))
    settings = tuple(_settings(factory, sections, _units(text)))
    block = _BLOCK.search(text)
    return Description(
        name=plugin.name if plugin else who,
        distribution=plugin.distribution if plugin else "",
        version=plugin.version if plugin else "",
        object=plugin.object if plugin else reference,
        purpose=sections[""],
        settings=settings,
        hooks=hooks_of(factory, who),
        observer=bool(getattr(cls, "observer", False)),
        state=_state(cls, text),
        attributes=_entries(sections.get("Attributes", "")),
        by_name=_by_name(_as_written(reference, plugin), factory),
        example=block.group(1) if block else "",
    )


def class_of(factory: Callable[..., Any]) -> type | None:
    """Tell which class a callback will have; None for a function that does not say."""
    if isinstance(factory, type):
        return factory
    try:
        returned = typing.get_type_hints(factory).get("return")
    except Exception:  # a name that exists for type checkers only
        return None
    return returned if isinstance(returned, type) else None


def hooks_of(factory: Callable[..., Any], name: str) -> tuple[Hook, ...]:
    """Find the hooks of a class without making an instance.

    Args:
        factory: The class, or a function that is annotated to return one.
        name: Whose they are, for errors.

    Raises:
        HookError: If one of them could never be called.
    """
    cls = class_of(factory)
    if cls is None:
        return ()
    blank: Any = object.__new__(cls)
    known = Registry([(name, blank)]).hooks
    found = [
        Hook(one.hook, "tryfirst" if one.tryfirst else "trylast" if one.trylast else "")
        for one in implementations(blank, name, 0, known)
    ]
    as_they_run = hookspecs.names()
    return tuple(sorted(found, key=lambda hook: (*as_they_run, hook.name).index(hook.name)))


def _plugin(reference: str) -> Plugin | None:
    owner, _, name = reference.rpartition("/")
    return None if ":" in name else discovery.find(name, owner or None)


def _as_written(reference: str, plugin: Plugin | None) -> str:
    if plugin is None:
        return reference
    return f"{plugin.distribution}/{plugin.name}" if "/" in reference else plugin.name


def _own_readme(plugin: Plugin) -> str:
    """Give the README of a distribution that holds this callback and no other."""
    held = [one for owners in discovery.installed().values() for one in owners]
    alone = [one.distribution for one in held].count(plugin.distribution) == 1
    return discovery.readme(plugin.distribution) if alone else ""


# -- the docstring -----------------------------------------------------------------


def _docstring(factory: Callable[..., Any]) -> str:
    own = inspect.cleandoc(factory.__doc__ or "")  # not an inherited one: that is of the base
    init = inspect.cleandoc(getattr(factory.__dict__.get("__init__"), "__doc__", None) or "")
    return own if "Args:" in own or not init else f"{own}\n\n{init}"


def _sections(doc: str) -> dict[str, str]:
    """Split a docstring in Google's form; what is before the sections has the empty name."""
    text = doc.replace("``", "").replace("::\n", ":\n")
    found = {match.group(1): textwrap.dedent(match.group(2)) for match in _SECTION.finditer(text)}
    first = _SECTION.search(text)
    return {"": (text[: first.start()] if first else text).strip(), **found}


def _entries(text: str) -> dict[str, str]:
    """Read ``name: meaning`` entries, whose further lines are indented."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        entry = _ENTRY.match(f"{line}\n")
        if entry:
            name = entry.group(1)
            line = line[entry.end() - 1 :]
        if name and line.strip():
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def _settings(
    factory: Callable[..., Any], sections: dict[str, str], units: dict[str, str]
) -> list[Setting]:
    meanings = _entries(sections.get("Args", ""))
    settings = []
    for parameter in constructor(factory).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        further = parameter.kind is parameter.VAR_KEYWORD
        name = f"**{parameter.name}" if further else parameter.name
        required = parameter.default is parameter.empty and not further
        settings.append(
            Setting(
                name=name,
                type=_type(parameter),
                default=None if required else "" if further else repr(parameter.default),
                unit=units.get(name, ""),
                meaning=meanings.pop(name, ""),
            )
        )
    groups = {name: text for name, text in meanings.items() if name.startswith("**")}
    return [*settings, *(Setting(name, "", "", "", text) for name, text in groups.items())]


def _type(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


# -- the README ----------------------------------------------------------------------


def _units(text: str) -> dict[str, str]:
    """Read the units from a table with the columns ``setting`` and ``unit``."""
    units: dict[str, str] = {}
    columns: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not columns:
            columns = [cell.lower() for cell in cells]
        elif "setting" in columns and "unit" in columns and len(cells) == len(columns):
            row = dict(zip(columns, cells, strict=True))
            units[row["setting"].strip("`")] = row["unit"].replace("`", "").replace("\\|", "|")
    return units


def _state(cls: type | None, text: str) -> str:
    told = _STATE.search(text)
    if told:
        return " ".join(told.group(1).split()).replace("`", "")
    method = getattr(cls, "state_dict", None)
    if method is None:
        return "none of its own" if cls else "not known before it is made"
    return inspect.getdoc(method) or "what its state_dict() gives"


def _by_name(reference: str, factory: Callable[..., Any]) -> str:
    """Write it as a user would: with what it requires, or else with its first plain setting."""
    parameters = [
        p
        for p in constructor(factory).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    required = [f"{p.name}=..." for p in parameters if p.default is p.empty]
    plain = [
        f"{p.name}={_written(p.default)}"
        for p in parameters
        if isinstance(p.default, str | int | float) and p.default != ""
    ]
    shown = ",".join(required or plain[:1])
    return f"{reference}:{shown}" if shown else reference


def _written(value: str | int | float) -> str:
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value if _BARE.fullmatch(value) else "'" + value.replace("'", "''") + "'"
