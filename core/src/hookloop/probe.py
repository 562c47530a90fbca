"""Importing one plugin in a process of its own, to see whether it works and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from hookloop.discovery import Plugin


@dataclass(frozen=True)
class Finding:
    """What came of importing a plugin.

    Attributes:
        seconds: How long the import took, with all that it imports itself; None if it failed.
        hooks: The hooks that its class implements.
        problem: What is broken, with a ``fix:`` line; None if nothing is.
    """

    seconds: float | None = None
    hooks: list[str] = field(default_factory=list)
    problem: str | None = None


def probe(plugin: Plugin, timeout: float) -> Finding:
    """Import a plugin in a new process, so that a crash or an endless loop harms nobody.

    Args:
        plugin: What to import.
        timeout: Seconds after which the process is ended.
    """
    answer, code = isolated("hookloop.probe", json.dumps(asdict(plugin)), timeout)
    if code is None:
        return _broken(plugin, f"was not imported within {timeout:g} seconds")
    if not answer:
        return _broken(plugin, f"ends the process that imports it, with status {code}")
    return Finding(**json.loads(answer))


def isolated(module: str, word: str, timeout: float) -> tuple[bytes, int | None]:
    """Run a module in a new process that sees the same installation.

    Args:
        module: The module, which writes its answer to standard output.
        word: Its one argument.
        timeout: Seconds after which the process is ended.

    Returns:
        The answer and the exit status; None for the status where the time was up.
    """
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)
    command = [sys.executable, "-P", "-m", module, word]
    # A file and not a pipe: a pipe stays open for as long as a child of the child lives.
    with tempfile.TemporaryFile() as answer:
        try:
            code = subprocess.run(  # noqa: S603
                command,
                env={**os.environ, "PYTHONPATH": places},
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return b"", None
        answer.seek(0)
        return answer.read(), code


def _broken(plugin: Plugin, what: str) -> Finding:
    who = f"The callback {plugin.name!r} of {plugin.distribution} {plugin.version}"
    fix = f"pip install --upgrade {plugin.distribution}, or tell its authors"
    return Finding(problem=f"{who} ({plugin.object}) {what}.\nfix: {fix}")


def _find(plugin: Plugin) -> Finding:
    started = time.perf_counter()
    try:
        factory = plugin.load()
        seconds = time.perf_counter() - started
        from hookloop.describe import hooks_of  # after the clock: most plugins import its parts

        hooks = [hook.name for hook in hooks_of(factory, plugin.name)]
    except Exception as error:
        return Finding(problem=str(error))
    return Finding(seconds=round(seconds, 4), hooks=hooks)


def main(text: str) -> Any:
    """Be the new process: answer on standard output, which the plugin itself cannot reach."""
    answer = os.dup(1)
    os.dup2(2, 1)
    finding = _find(Plugin(**json.loads(text)))
    os.write(answer, json.dumps(asdict(finding)).encode())
    os._exit(0)  # a thread that the plugin started may never end


if __name__ == "__main__":
    main(sys.argv[1])
