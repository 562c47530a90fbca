"""``hookloop check``: the kit on an installed callback, or on a plugin's folder."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hookloop import discovery
from hookloop.selection import parse
from hookloop.testing.folder import offered
from hookloop.testing.kit import Kit, Result
from hookloop.testing.subject import Subject


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``hookloop check`` takes."""
    parser.add_argument(
        "target",
        nargs="?",
        default=".",
        metavar="NAME|PATH",
        help="a callback, as in early_stopping or csv_logger:filename={tmp}/log.csv, "
        "or the folder of a package that need not be installed (default: this one)",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Make all checks.

    Returns:
        0 if all passed, else 1.
    """
    reference, settings = parse(asked.target)
    statuses: Counter[str] = Counter()
    reports = []
    with ExitStack() as stack:
        names = [reference]
        if _is_folder(reference):
            names = stack.enter_context(offered(Path(reference)))
        for name in names:
            subject = Subject(name, settings)
            if subject.packaged:
                _ = subject.plugin  # an unknown name is no finding of a check
            kit = Kit(subject)
            results = list(kit.results() if asked.json else _shown(kit))
            statuses.update(result.status for result in results)
            reports.append(_report(subject, kit, results))
    if asked.json:
        print(json.dumps(reports, indent=2))
    return int(bool(statuses["failed"] or statuses["blocked"]))


def _is_folder(reference: str) -> bool:
    """Tell whether a folder is meant; a bare word is a name if it is one."""
    path = Path(reference)
    spelled_as_one = len(path.parts) != 1 or os.sep in reference
    known = discovery.normalized(reference) in discovery.installed()
    return path.is_dir() and (spelled_as_one or reference == ".." or not known)


def _shown(kit: Kit) -> Iterator[Result]:
    """Print each result as soon as it is there."""
    print(_who(kit.subject))
    blocked: Counter[str] = Counter()
    for result in kit.results():
        if result.status == "blocked":
            blocked[result.message] += 1
        else:
            mark = {"passed": "passed ", "failed": "FAILED "}[result.status]
            print(f"  {mark}  {result.name}", flush=True)
        if result.status == "failed":
            text = f"promise: {result.promise}\n{result.message}"
            print(textwrap.indent(text, " " * 11))
        yield result
    for why, many in blocked.items():
        print(f"  blocked  {many} more: {why}")
    print(kit.summary())


def _who(subject: Subject) -> str:
    if not subject.packaged:
        return subject.reference
    return f"{subject.plugin.name}  ({subject.plugin.distribution} {subject.plugin.version})"


def _report(subject: Subject, kit: Kit, results: list[Result]) -> dict[str, Any]:
    counts = Counter(result.status for result in results)
    return {
        "callback": subject.name,
        "distribution": subject.plugin.distribution if subject.packaged else None,
        "version": subject.plugin.version if subject.packaged else None,
        "passed": counts["passed"],
        "failed": counts["failed"],
        "blocked": counts["blocked"],
        "checks": [asdict(result) for result in results],
    }
