"""Whether an installed version is one that a requirement allows (PEP 440), without pip."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[._-]?(?P<kind>a|b|rc)[._-]?(?P<pre>\d+))?"
    r"(?:\.post(?P<post>\d+))?(?:\.dev(?P<dev>\d+))?(?:\+[\w.-]+)?"
)
_CLAUSE = re.compile(r"(===|~=|==|!=|<=|>=|<|>)\s*([^\s,;)]+)")
_REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;]*)(?:;(.*))?", re.DOTALL)
_KINDS = {"a": 0, "b": 1, "rc": 2}


@dataclass(frozen=True)
class Requirement:
    """What a distribution says that it needs.

    Attributes:
        name: The distribution that it needs.
        versions: Which versions of it, as ``>=0.1,<0.2``; empty for any.
        marker: When it needs it, as ``extra == "test"``; empty for always.
    """

    name: str
    versions: str
    marker: str


def read_requirement(text: str) -> Requirement | None:
    """Take a requirement apart; None where it is none, or names an address."""
    found = _REQUIREMENT.fullmatch(text)
    if found is None or "@" in text.partition(";")[0]:
        return None
    name, versions, marker = (part or "" for part in found.groups())
    return Requirement(name, versions.strip().rstrip(")").strip(), marker.strip())


def allows(versions: str, version: str) -> bool:
    """Tell whether a version is one of those that are allowed.

    Args:
        versions: As in a requirement: ``>=0.1,<0.2``.
        version: What is installed, a pre-release too.

    Returns:
        True also where either cannot be read: this is for finding faults, not for guessing them.
    """
    there = _read(version)
    return there is None or all(
        _holds(there, version, sign, wanted) for sign, wanted in _CLAUSE.findall(versions)
    )


def is_too_old(versions: str, version: str) -> bool:
    """Tell whether a version lies below all those that are allowed."""
    there = _read(version)
    floors = [
        _read(bound) for sign, bound in _CLAUSE.findall(versions) if sign in (">=", ">", "~=")
    ]
    return there is not None and any(floor and there.key < floor.key for floor in floors)


@dataclass(frozen=True)
class _Version:
    epoch: int
    release: tuple[int, ...]
    pre: tuple[int, int] | None
    post: int | None
    dev: int | None

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Order: development releases, alpha, beta, candidates, the release, post-releases."""
        stage: tuple[int, ...] = (1,)
        if self.pre is not None:
            stage = (0, *self.pre)
        elif self.dev is not None and self.post is None:
            stage = (-1,)
        dev = float("inf") if self.dev is None else self.dev
        return (self.base, stage, -1 if self.post is None else self.post, dev)

    @cached_property
    def base(self) -> tuple[int, tuple[int, ...]]:
        """The release without zeros at its end: 1.7 and 1.7.0 are one."""
        numbers = list(self.release)
        while numbers and numbers[-1] == 0:
            numbers.pop()
        return self.epoch, tuple(numbers)


def _read(text: str) -> _Version | None:
    found = _VERSION.fullmatch(text.strip().lower())
    if found is None:
        return None
    pre = (_KINDS[found["kind"]], int(found["pre"])) if found["kind"] else None
    post, dev = (int(found[part]) if found[part] else None for part in ("post", "dev"))
    release = tuple(int(part) for part in found["release"].split("."))
    return _Version(int(found["epoch"] or 0), release, pre, post, dev)


def _holds(there: _Version, written: str, sign: str, wanted: str) -> bool:
    if sign == "===":
        return written == wanted
    if wanted.endswith(".*"):
        same = _begins_with(there, _read(wanted.removesuffix(".*")))
        return same if sign == "==" else not same
    bound = _read(wanted)
    if bound is None:
        return True
    if sign == "~=":
        return there.key >= bound.key and _begins_with(there, bound, bound.release[:-1])
    if sign == "<":  # no candidate of the bound, unless the bound is one
        is_final = bound.pre is None and bound.dev is None
        return there.key < bound.key and not (
            is_final and there.base == bound.base and (there.pre or there.dev is not None)
        )
    if sign == ">":  # no post-release of the bound, unless the bound is one
        return there.key > bound.key and not (
            bound.post is None and there.post is not None and there.base == bound.base
        )
    compared = {"==": there.key == bound.key, "!=": there.key != bound.key}
    compared |= {"<=": there.key <= bound.key, ">=": there.key >= bound.key}
    return compared[sign]


def _begins_with(
    there: _Version, bound: _Version | None, release: tuple[int, ...] | None = None
) -> bool:
    if bound is None:
        return True
    release = bound.release if release is None else release
    padded = there.release + (0,) * len(release)
    return there.epoch == bound.epoch and padded[: len(release)] == release
