"""``hookloop doctor``: what is broken, clashes, does not match, or changes a run from outside."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.version import Version

from hookloop import __version__, discovery, outside
from hookloop.discovery import Plugin, canonical
from hookloop.outside import Finding
from hookloop.probe import isolated, probe

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Report:
    """What was seen, and what is to be said about it.

    Attributes:
        hookloop: Version of core.
        python: Version and system.
        torch: What it says of itself: ``version``, ``built_for``, ``devices``; empty if broken.
        callbacks: How many names of callbacks are installed.
        findings: What is wrong, and then what is only to be known.
    """

    hookloop: str
    python: str
    torch: dict[str, Any]
    callbacks: int
    findings: list[Finding]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long an import may take (default: 60)",
    )
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Look, and print what was found; 1 if anything is broken."""
    report = examine(asked.timeout)
    print(json.dumps(asdict(report), indent=2) if asked.json else _as_text(report))
    return int(any(finding.broken for finding in report.findings))


def examine(timeout: float) -> Report:
    """Look at the environment of this process; everything foreign is imported in other ones.

    Args:
        timeout: Seconds that one import may take.
    """
    names = discovery.installed()
    plugins = [plugin for owners in names.values() for plugin in owners]
    # Half of the cores: imports that wait for each other would seem slow.
    with ThreadPoolExecutor(max((os.cpu_count() or 1) // 2, 1)) as pool:
        torch = pool.submit(_torch, timeout)
        imports = list(pool.map(lambda plugin: probe(plugin, timeout), plugins))
    seen, of_torch = torch.result()
    findings = [*_unmet(plugins), *_clashes(names.values())]
    findings += [_read("plugin", found.problem) for found in imports if found.problem]
    findings += [*of_torch, *outside.examine(os.environ)]
    findings.sort(key=lambda finding: not finding.broken)
    where = f"{platform.python_version()} on {platform.system()}"
    return Report(__version__, where, seen, len(names), findings)


# -- plugins -------------------------------------------------------------------------------


def _unmet(plugins: Iterable[Plugin]) -> Iterator[Finding]:
    """Find what core and the plugins need, and is not there, or in another version."""
    for who in sorted({"hookloop", *(plugin.distribution for plugin in plugins)}):
        for text in discovery.needs(who):
            need = _needed(text)
            if need is None:
                continue
            wanted, version = text.partition(";")[0].strip(), discovery.version(need.name)
            if version is None:
                what = f"{who} needs {wanted}, which is not installed."
                yield Finding("requirement", what, f'pip install "{wanted}"')
            elif not need.specifier.contains(version, prereleases=True):
                yield _mismatch(who, need, wanted, version)


def _needed(text: str) -> Requirement | None:
    """Read a requirement; None for one of an extra or of another system, or none at all."""
    try:
        need = Requirement(text)
        applies = need.marker is None or need.marker.evaluate({"extra": ""})
    except ValueError:  # packaging's own errors are of that kind
        return None
    return need if applies and not need.url else None


def _mismatch(who: str, need: Requirement, wanted: str, version: str) -> Finding:
    what = f"{who} needs {wanted}; installed is {version}."
    fix = f'pip install "{wanted}"'
    if canonical(need.name) == "hookloop":
        old = is_too_old(need, version)
        fix = "pip install --upgrade hookloop" if old else f"pip install --upgrade {who}"
        what += " It is too old." if old else f" {who} was not made for it."
    return Finding("requirement", what, fix)


def is_too_old(need: Requirement, version: str) -> bool:
    """Tell whether a version lies below all those that a requirement allows."""
    there = Version(version)
    lows = [
        (one.operator, Version(one.version.removesuffix(".*")))
        for one in need.specifier
        if one.operator in (">=", ">", "~=", "==")
    ]
    return any(there < low or (sign == ">" and there == low) for sign, low in lows)


def _clashes(names: Iterable[tuple[Plugin, ...]]) -> Iterator[Finding]:
    """Find what two distributions claim: a name, a command, a module; and damaged metadata."""
    modules: dict[str, set[str]] = {}
    for owners in names:
        yield from _several("callback", owners)
        for plugin in owners:
            module = plugin.object.partition(":")[0].partition(".")[0]
            modules.setdefault(module, set()).add(canonical(plugin.distribution))
            if not plugin.version:
                what = f"The metadata of {plugin.distribution} are damaged: they tell no version."
                yield Finding(
                    "plugin", what, f"pip install --force-reinstall {plugin.distribution}"
                )
    for module, of in sorted(modules.items()):
        if len(of) > 1:
            who = " and ".join(sorted(of))
            what = f"{who} both bring the module {module}: one has overwritten the other."
            yield Finding("clash", what, "uninstall both, and install the one that you want")
    for owners in discovery.installed(discovery.COMMANDS).values():
        yield from _several("command", owners)


def _several(kind: str, owners: tuple[Plugin, ...]) -> Iterator[Finding]:
    if len(owners) > 1:
        who = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in owners)
        fix = "uninstall one of them"
        if kind == "callback":
            names = " or ".join(f"{plugin.distribution}/{plugin.name}" for plugin in owners)
            fix += f", or write {names}"
        yield Finding("clash", f"The {kind} {owners[0].name!r} is provided by {who}.", fix)


# -- torch -----------------------------------------------------------------------------------


def _torch(timeout: float) -> tuple[dict[str, Any], list[Finding]]:
    """Ask torch about itself, in a process that it may take down."""
    answer, code = isolated("hookloop.outside", "torch", timeout)
    if code is None:
        what = f"torch was not imported within {timeout:g} seconds."
        fix = "hookloop doctor --timeout with more seconds, or install torch anew"
        return {}, [Finding("torch", what, fix)]
    if not answer:
        what = f"Importing torch ends the process, with status {code}."
        fix = "install torch anew, with the line that its own page gives for this machine"
        return {}, [Finding("torch", what, fix)]
    told = json.loads(answer)
    return told["seen"], [Finding(**finding) for finding in told["findings"]]


# -- words -------------------------------------------------------------------------------------


def _read(about: str, problem: str) -> Finding:
    """Take the sentence of an error and its ``fix:`` line apart."""
    what, _, fix = problem.rpartition("\nfix: ")
    return Finding(about, what or problem, fix)


def _as_text(report: Report) -> str:
    torch = report.torch
    lines = [f"hookloop {report.hookloop}, Python {report.python}, {report.callbacks} callbacks"]
    if torch:
        devices = ", ".join(torch["devices"]) or "no accelerator is seen"
        lines.append(f"torch {torch['version']}, built for {torch['built_for']}: {devices}")
    for finding in report.findings:
        head = "broken: " if finding.broken else ""
        lines += ["", f"{head}{finding.what}", f"fix: {finding.fix}"]
    broken = sum(finding.broken for finding in report.findings)
    lines += ["", f"{broken} broken" if broken else "Nothing is broken."]
    return "\n".join(lines)
