"""The command line: ``hookloop list``, ``info``, ``check``, ``new`` and so on, and plugins' own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hookloop import __version__, discovery
from hookloop.discovery import Plugin
from hookloop.errors import AmbiguousCallbackError, HookloopError
from hookloop.tables import table

if TYPE_CHECKING:
    from hookloop.describe import Description, Setting
    from hookloop.probe import Finding

OK, DAMAGED, BROKEN = "ok", "damaged metadata", "broken"
TOLD = {
    "list": "show which callbacks are installed",
    "info": "show what one callback does, and its settings",
    "check": "test a callback that is installed, or the folder of a plugin, with the kit",
    "demo": "train on handwritten digits, with callbacks chosen by name",
    "new": "write a package with a callback of your own to start from",
    "resume-info": "show what saved states hold, which are intact, and where a run would go on",
    "doctor": "look for what is broken, clashes, or changes a run from outside",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; those of the process unless given.

    Returns:
        The exit status: 0, 1 if ``list --check``, ``check`` or ``resume-info`` found something
        wrong, 2 for an error of the user's, 130 after an interrupt, 141 if nobody reads what is
        printed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        brought = _brought(words)
        if brought is not None:
            status = int(brought(words[1:]) or 0)
        else:
            asked = _parser(words).parse_args(words)
            status = int(asked.run(asked))
        sys.stdout.flush()
    except HookloopError as error:
        print(f"hookloop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hookloop: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `hookloop list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python's own flush at exit complains
        return 141
    return status


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hookloop", description="Callbacks for PyTorch training, chosen by name."
    )
    parser.add_argument("--version", action="version", version=f"hookloop {__version__}")
    parser.set_defaults(run=lambda asked: _help(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    made = {name: commands.add_parser(name, help=t, description=t) for name, t in TOLD.items()}
    if not words or words[0] not in TOLD:  # for the help, and for what an unknown word might mean
        for owners in discovery.installed(discovery.COMMANDS).values():
            who = " and ".join(plugin.distribution for plugin in owners)
            commands.add_parser(owners[0].name, help=f"(of {who})")
    _list_options(made["list"])
    made["info"].add_argument("name", metavar="NAME", help="of the callback, as in: early_stopping")
    made["info"].add_argument("--json", action="store_true", help="print it as JSON")
    made["info"].set_defaults(run=info)
    if "demo" in words:  # its options come from parts that `hookloop list` has no time to import
        from hookloop import demo

        demo.add_options(made["demo"])
    if "new" in words:
        from hookloop import scaffold

        scaffold.add_options(made["new"])
    if "doctor" in words:
        from hookloop import doctor

        doctor.add_options(made["doctor"])
    if "resume-info" in words:
        from hookloop import resume_info

        resume_info.add_options(made["resume-info"])
    if "check" in words:
        from hookloop.testing import command

        command.add_options(made["check"])
    return parser


def _brought(words: Sequence[str]) -> Callable[[Sequence[str]], int | None] | None:
    """Import the command of a plugin that the first word names; None if it names none."""
    if not words or words[0].startswith("-") or words[0] in TOLD:
        return None
    found = discovery.installed(discovery.COMMANDS)
    owners = found.get(discovery.normalized(words[0]), ())
    if len(owners) > 1:
        who = " and ".join(plugin.distribution for plugin in owners)
        message = f"The command {words[0]!r} is provided by {who}."
        raise AmbiguousCallbackError(message, fix="uninstall one of them")
    return owners[0].load("command") if owners else None


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print it as JSON, also what a narrow terminal leaves out",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="import each one, in a process of its own; exit with 1 if anything is wrong",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long an import may take with --check (default: 60)",
    )
    parser.set_defaults(run=list_callbacks)


# -- hookloop list -------------------------------------------------------------------------


def list_callbacks(asked: argparse.Namespace) -> int:
    """Show what is installed, without importing any of it unless ``--check`` asks for that."""
    rows = [
        (plugin, _status(plugin, len(owners)))
        for owners in _chosen(asked.names)
        for plugin in owners
    ]
    findings = _check([plugin for plugin, _ in rows], asked.timeout) if asked.check else []
    shown = [_row(*row) for row in rows]
    for row, finding in zip(shown, findings, strict=bool(findings)):
        _add_finding(row, finding)
    if asked.json:
        print(json.dumps(shown, indent=2))
    else:
        _print_table(shown)
        _print_problems(shown)
    return int(asked.check and any(row["status"] != OK for row in shown))


def _chosen(names: Sequence[str]) -> list[tuple[Plugin, ...]]:
    installed = discovery.installed()
    wanted = [discovery.normalized(name) for name in names] or list(installed)
    for name in names:
        if discovery.normalized(name) not in installed:
            discovery.find(name)  # knows what to say
    return [installed[name] for name in wanted]


def _status(plugin: Plugin, owners: int) -> str:
    if not plugin.version:
        return DAMAGED
    return OK if owners == 1 else f"ambiguous: {owners} owners"


def _row(plugin: Plugin, status: str) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "object": plugin.object,
        "status": status,
    }


def _check(plugins: Sequence[Plugin], timeout: float) -> list[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    from hookloop.probe import probe

    # Half of the cores: imports that wait for each other would be shown as slow.
    with ThreadPoolExecutor(max((os.cpu_count() or 1) // 2, 1)) as pool:
        return list(pool.map(lambda plugin: probe(plugin, timeout), plugins))


def _add_finding(row: dict[str, Any], finding: Finding) -> None:
    problem = finding.problem
    if problem:
        row["status"] = BROKEN
    elif row["status"] == DAMAGED:
        who = row["distribution"]
        problem = (
            f"The metadata of {who} are damaged, so that its version is not known.\n"
            f"fix: pip install --force-reinstall {who}"
        )
    elif row["status"] != OK:
        problem = (
            f"The callback {row['name']!r} is provided by more than one distribution.\n"
            f"fix: name this one as {row['distribution']}/{row['name']}"
        )
    row["import_seconds"], row["hooks"], row["problem"] = finding.seconds, finding.hooks, problem


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    names = ["name", "distribution", "version", "object", "status"]
    cells = [[str(row[name]) or "-" for name in names] for row in rows]
    if rows and "hooks" in rows[0]:
        names += ["import", "hooks"]
        for line, row in zip(cells, rows, strict=True):
            seconds = row["import_seconds"]
            line += ["-" if seconds is None else f"{seconds:.2f} s", ", ".join(row["hooks"]) or "-"]
    heads = [name.upper() for name in names]
    spare = [names.index(name) for name in ("object", "hooks") if name in names]
    print(table([heads, *cells], spare=spare))


def _print_problems(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        if row.get("problem"):
            print(f"\n{row['status']}: {row['problem']}")


# -- hookloop info ---------------------------------------------------------------------------


def info(asked: argparse.Namespace) -> int:
    """Show what one callback does, its settings, its hooks, and how it is used."""
    from hookloop.describe import describe

    found = describe(asked.name)
    if asked.json:
        from dataclasses import asdict

        print(json.dumps(asdict(found), indent=2))
    else:
        print(_as_text(found))
    return 0


def _as_text(found: Description) -> str:
    who = " ".join(filter(None, (found.distribution, found.version))) or "not packaged"
    hooks = [f"{hook.name} ({hook.order})" if hook.order else hook.name for hook in found.hooks]
    failure = "it is turned off, and training goes on" if found.observer else "the run ends with it"
    attributes = [_term(*pair) for pair in found.attributes.items()]
    parts = [
        f"{found.name}  ({who}, {found.object})",
        _wrapped(found.purpose),
        _section("Settings", [line for one in found.settings for line in _setting(one)]),
        _section("Hooks", [_wrapped(", ".join(hooks) or "those that its settings bring")]),
        _section("If it fails", [failure]),
        _section("State it saves", [_wrapped(found.state)]),
        _section("Attributes", attributes) if attributes else "",
        _section("By name", [f'callbacks=["{found.by_name}"]', f"--callback {found.by_name}"]),
        _section("Example", [found.example.rstrip()]) if found.example else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _section(title: str, lines: Sequence[str]) -> str:
    import textwrap

    return "\n".join([title, *(textwrap.indent(line, "  ") for line in lines or ["none"])])


def _setting(setting: Setting) -> list[str]:
    default = {None: " (required)", "": ""}.get(setting.default, f" = {setting.default}")
    kind = f": {setting.type}" if setting.type else ""
    unit = f"  [{setting.unit}]" if setting.unit else ""
    return [_term(f"{setting.name}{kind}{default}{unit}", setting.meaning)]


def _term(term: str, meaning: str) -> str:
    import textwrap

    return f"{term}\n{textwrap.indent(_wrapped(meaning), '    ')}" if meaning else term


def _wrapped(text: str) -> str:
    """Fold paragraphs to the width of the terminal, and leave what is indented as it is."""
    import shutil
    import textwrap

    width = min(max(shutil.get_terminal_size().columns, 60), 100) - 6
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else textwrap.fill(" ".join(part.split()), width)
        for part in paragraphs
    )


if __name__ == "__main__":
    sys.exit(main())
