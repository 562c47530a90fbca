"""Saves that are killed before every system call, in processes of their own.

`python torn_writes.py FOLDER`: the processes are forks of this one, so that torch is
imported once. Prints what came out for each write path, as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import torch
from forks import forked
from system_calls import Calls, die
from write_paths import BROKEN, PATHS, WritePath, left_over

BEFORE = 2  # saves that have returned before the one that is killed
KILLS, SEED = 20, 11
KEPT = 2  # states that a backup keeps
LOGGERS = ("rows", "events", "spool")


def dies_at(path: WritePath, folder: Path, at: int, *, half: bool) -> int:
    """Save three times, and die in the last at a call; gives the exit status."""

    def run() -> None:
        save = path.begin(folder, 0)
        for number in range(1, BEFORE + 1):
            save(number)
        with Calls(folder, at, die, half=half):
            save(BEFORE + 1)

    return forked(run)


def problems_in(path: WritePath, folder: Path, killed: bool, before: int = BEFORE) -> list[str]:
    """Read what is there, go on with it, and say what is wrong."""
    found = path.read(folder)
    wanted = (before, before + 1) if killed else (before + 1,)
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


def many_kills(root: Path, chance: random.Random) -> list[str]:
    """Kill one run after the other, all with one folder; gives what is wrong."""
    path, folder, problems, last = PATHS["backup"], root / "many", [], 0
    folder.mkdir()
    for kill in range(KILLS):
        at = chance.randrange(60)

        def run(last: int = last, at: int = at) -> None:
            save = path.begin(folder, 0)
            with Calls(folder, at, die):
                for number in count(last + 1):
                    save(number)

        status, before, last = forked(run), last, path.read(folder) or 0
        states = [one for one in (folder / "backup").iterdir() if "state-" in one.name]
        if status != -signal.SIGKILL or last < before or len(states) > KEPT + 1:
            problems.append(f"kill {kill}, call {at}: {status}, {before} to {last}, {states}")
    answer = root / "many.json"
    if forked(lambda: answer.write_text(json.dumps(problems_in(path, folder, True, last)))):
        problems.append("the last run did not end")
    return problems + list(json.loads(answer.read_text()))


def killed_loggers(root: Path, chance: random.Random) -> list[str]:
    """Kill loggers at a random time, of which all but the last row are known to be written."""
    problems = []
    for trial in range(KILLS):
        folder = root / f"loggers-{trial}"
        folder.mkdir()
        heard, told = os.pipe()
        child = os.fork()
        if not child:
            try:
                log(folder, told)
            finally:
                os._exit(1)
        lines, wanted = b"", chance.randint(1, 5)
        while lines.count(b"\n") < wanted:
            lines += os.read(heard, 64)
        end = time.perf_counter() + chance.uniform(0, 0.003)
        while time.perf_counter() < end:
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        while rest := os.read(heard, 64):
            lines += rest
        os.close(heard)
        known, answer = lines.count(b"\n"), root / "loggers.json"
        forked(lambda: look_at_logs(folder, known, answer))  # noqa: B023
        problems += [f"trial {trial}: {one}" for one in json.loads(answer.read_text())]
    return problems


def log(folder: Path, told: int) -> None:
    saves = [PATHS[name].begin(folder, 0) for name in LOGGERS]
    for number in count(1):
        for save in saves:
            save(number)
        os.write(told, b"\n")


def look_at_logs(folder: Path, known: int, answer: Path) -> None:
    problems = []
    for name in LOGGERS:
        path = PATHS[name]
        found = path.read(folder)
        if found not in (known, known + 1):
            problems.append(f"{name}: {found} were read, {known} were written")
        save = path.begin(folder, known)
        if name != "spool":  # whose events are all sent again, with the keys that they had
            save(known + 1)
            if path.read(folder) != known + 1:
                problems.append(f"{name}: {path.read(folder)} after {known} and one more")
    answer.write_text(json.dumps(problems))


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    gc.collect()
    gc.freeze()  # or each collection in a fork would copy all pages
    root = Path(sys.argv[1])
    chance = random.Random(SEED)
    results: dict[str, Any] = {name: tried(name, root) for name in [*PATHS, *BROKEN]}
    results["one after the other"] = many_kills(root, chance)
    results["loggers"] = killed_loggers(root, chance)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
