"""Saves that are killed before every system call, in processes of their own.

`python torn_writes.py FOLDER [NAME...]`: the processes are forks of this one, so that torch is
imported once. Prints what came out for each write path, as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from system_calls import Calls, die
from write_paths import BROKEN, PATHS, WritePath, left_over

BEFORE = 2  # saves that have returned before the one that is killed


def forked(act: Callable[[], Any]) -> int:
    """Do something in a process of its own; gives its exit status, negative for a signal."""
    child = os.fork()
    if not child:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dies_at(path: WritePath, folder: Path, at: int, *, half: bool) -> int:
    """Save three times, and die in the last at a call; gives the exit status."""

    def run() -> None:
        save = path.begin(folder, 0)
        for number in range(1, BEFORE + 1):
            save(number)
        with Calls(folder, at, die, half=half):
            save(BEFORE + 1)

    return forked(run)


def problems_in(path: WritePath, folder: Path, killed: bool) -> list[str]:
    """Read what is there, go on with it, and say what is wrong."""
    found = path.read(folder)
    wanted = (BEFORE, BEFORE + 1) if killed else (BEFORE + 1,)
    problems = [] if found in wanted else [f"{found} was read, {wanted} were saved"]
    save = path.begin(folder, found or 0)
    problems += [f"not swept: {one}" for one in left_over(folder) if one.endswith(".tmp")]
    save((found or 0) + 1)
    if path.read(folder) != (found or 0) + 1:
        problems.append("the next save cannot be read")
    return problems + [f"left behind: {one}" for one in left_over(folder)]


def look(path: WritePath, trials: dict[str, tuple[Path, int]], answer: Path) -> None:
    """Look at what each trial left, and write down what is wrong with it."""
    problems = []
    for where, (folder, status) in trials.items():
        if status not in (0, -signal.SIGKILL):
            problems.append(f"{where}: the save ended with {status}")
        try:
            problems += [f"{where}: {one}" for one in problems_in(path, folder, status != 0)]
        except Exception as error:
            problems.append(f"{where}: {error!r}")
        shutil.rmtree(folder)
    answer.write_text(json.dumps(problems))


def tried(name: str, root: Path) -> dict[str, Any]:
    """Kill before each call, and with half of each write done, until the save runs through."""
    path, counts = {**PATHS, **BROKEN}[name], []
    trials: dict[str, tuple[Path, int]] = {}
    for where in ("before call", "in the middle of write"):
        at, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:
            folder = root / f"{name} {where} {at}".replace(" ", "-")
            folder.mkdir()
            status = dies_at(path, folder, at, half=where != "before call")
            trials[f"{where} {at}"] = (folder, status)
            at += 1
        counts.append(at - 1)
    answer = root / "answer.json"
    ended = forked(lambda: look(path, trials, answer))
    problems = json.loads(answer.read_text()) if ended == 0 else [f"looking ended with {ended}"]
    return {"calls": counts[0], "writes": counts[1], "problems": problems}


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    gc.collect()
    gc.freeze()  # or each collection in a fork would copy all pages
    root = Path(sys.argv[1])
    print(json.dumps({name: tried(name, root) for name in sys.argv[2:] or [*PATHS, *BROKEN]}))


if __name__ == "__main__":
    main()
