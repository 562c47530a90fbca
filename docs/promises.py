"""What is promised about faults, and by which tests each promise is kept.

The promises stand in ``reliability.toml``; a test says by its mark ``reliability`` which it keeps.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("core/tests", "plugins", "tests", "tests_all")
_MARK = re.compile(r"mark\.reliability\(([^)]*)\)")
_ID = re.compile(r'"([A-Z]\d+)"')


def promises() -> dict[str, dict[str, str]]:
    """Give the promises by section and id."""
    return {section: ids for section, ids in _file().items() if section != "untested"}


def untested() -> dict[str, str]:
    """Give the reasons why a promise has no test, by its id."""
    return _file()["untested"]


def _file() -> dict[str, dict[str, str]]:
    return tomllib.loads((ROOT / "docs" / "reliability.toml").read_text(encoding="utf-8"))


def kept() -> dict[str, list[str]]:
    """Give for each id that a mark names the files of those tests."""
    found: dict[str, set[str]] = {}
    for path, one in _marked():
        found.setdefault(one, set()).add(path)
    return {one: sorted(paths) for one, paths in found.items()}


def _marked() -> Iterator[tuple[str, str]]:
    for folder in _FOLDERS:
        for path in (ROOT / folder).glob("**/test_*.py"):
            for mark in _MARK.finditer(path.read_text(encoding="utf-8")):
                for one in _ID.findall(mark[1]):
                    yield path.relative_to(ROOT).as_posix(), one


def table() -> str:
    """Write each section as a table: id, promise, and where it is tested, or why it is not."""
    where, reasons = kept(), untested()
    parts = []
    for section, ids in promises().items():
        rows = [f"| {section} | | tested in |", "|---|---|---|"]
        for one, promise in ids.items():
            files = ", ".join(f"`{path}`" for path in where.get(one, ()))
            rows.append(f"| {one} | {promise} | {files or 'not tested: ' + reasons.get(one, '')} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)
