"""Runs that are killed at random and started again until they end, beside undisturbed ones.

`python kills.py FOLDER --kills 50 --seed 7` kills processes until 50 have died of SIGKILL, some of
them in the same run, and compares what each run left with what the undisturbed run left, bit for
bit. The processes are forks of this one, so that torch is imported once. Everything random follows
from the seed and the number of the run: `--only 3 --seed 7` is that run again. Prints a line a run,
a table of what was killed where, and, into the file of `--to`, the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import hookloop_backup_and_restore._states as states
import numpy
import torch
from comparing import differences
from forks import forked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, Dataset

import hookloop
from hookloop import Callback, Trainer, hookimpl, rng

EPOCHS, BATCHES, TESTS = 12, 11, 3
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(148, 8, generator=GENERATOR)
Y = ((X[:, 0] + 0.5 * torch.randn(148, generator=GENERATOR)) > 0).long()
X, TEST_X, Y, TEST_Y = X[:88], X[88:], Y[:88], Y[88:]
#: What the batches come from, and through which host.
FORMS = ("arrays", "loader", "workers", "attached")
FIRST = ("batch", "save", "validation", "any time")
KINDS = (*FIRST, "resume")
HOOKS = {
    "batch": ("on_train_batch_begin", "on_before_optimizer_step", "on_train_batch_end"),
    "validation": ("on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"),
}
MARKS = "marks.txt"


def schedule(epoch: int, lr: float) -> float:
    return lr * (0.9 if epoch else 1.0)


def callbacks() -> list[Any]:
    """Every kind of decision and of record, close to their triggers."""
    return [
        "swap_ema_weights:decay=0.8",
        ("learning_rate_scheduler", {"schedule": schedule}),
        "reduce_lr_on_plateau:patience=1,factor=0.5",
        "early_stopping:patience=4",
        "model_checkpoint:filepath=best.pt,save_best_only=true",
        "csv_logger:filename=log.csv",
        "tensorboard:log_dir=logs,write_graph=false",
    ]


class Jittered(Dataset[Any]):
    """Augments with random numbers of all kinds, in the workers if there are any."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        scale = 1 + 0.1 * random.random() + 0.1 * float(numpy.random.rand())
        return X[index] * scale + 0.1 * torch.randn(8), Y[index]


# -- what is killed, and when ------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        kind: One of `KINDS`.
        hook: For a batch or validation, before which hook of which number.
        at: How many calls of the hook, or the how manieth save.
        share: For the others, after which share of the time that it takes.
    """

    kind: str
    hook: str = ""
    at: int = 0
    share: float = 0.0


@dataclass
class Plan:
    """What happens to one run; a function of seed and number."""

    number: int
    form: str
    settings: dict[str, Any]
    kills: list[Kill] = field(default_factory=list)


def drawn(seed: int, number: int) -> Plan:
    """Draw what happens to a run."""
    dice = random.Random(f"{seed}/{number}")
    settings = {
        "save_freq": dice.choice(["epoch", 2, 3, 7, "2 steps", "5 steps"]),
        "async_save": dice.random() < 0.7,
    }
    plan = Plan(number, FORMS[number % len(FORMS)], settings)
    for index in range(dice.randint(1, 4)):
        kind = dice.choice(KINDS if index else FIRST)
        hook = dice.choice(HOOKS.get(kind, ("",)))
        most = {"batch": 3 * BATCHES, "validation": 2 * TESTS, "save": 4}.get(kind, 1)
        at = dice.randint(1, 2 if hook in ("on_test_begin", "on_test_end") else most)
        plan.kills.append(Kill(kind, hook, at, dice.random()))
    return plan


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(seconds: float) -> None:
    timer = threading.Timer(seconds, die)
    timer.daemon = True
    timer.start()


def mark(*words: Any) -> None:
    """Note how far this process is, in a file that outlives it."""
    with open(MARKS, "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def lines() -> list[str]:
    """Give all notes; none if every process so far was killed before its first."""
    return Path(MARKS).read_text().splitlines() if Path(MARKS).exists() else []


def marks(word: str, since: int = 0) -> list[list[str]]:
    return [line.split() for line in lines()[since:] if line.split()[0] == word]


class Watches(Callback):
    """Notes when a restart begins and is done, and kills during one."""

    secret_settings = ("kill", "seconds")

    def __init__(self, kill: Kill | None, seconds: dict[str, float]) -> None:
        self._kill, self._seconds, self._began = kill, seconds, 0.0

    @hookimpl(tryfirst=True)
    def on_train_begin(self) -> None:
        self._began = time.monotonic()
        mark("begin")
        if self._kill is not None and self._kill.kind == "resume":
            die_after(self._kill.share * self._seconds["resume"])

    @hookimpl(tryfirst=True)
    def on_train_batch_begin(self) -> None:
        if self._began:
            mark("restored", self.loop.step, time.monotonic() - self._began)
            self._began = 0.0

    @hookimpl(trylast=True)
    def on_train_end(self) -> None:
        mark("ended")  # backup_and_restore, which comes later in the list, deletes its states next

    def on_message(self, text: str) -> bool:
        return True


class Dies(Callback):
    """Kills its process at the n-th call of a hook."""

    secret_settings = ("hook", "at")

    def __init__(self, hook: str, at: int) -> None:
        self._left = at
        if hook:
            setattr(self, hook, self._count)

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            die()


class Noted:
    """`_states.write` of backup_and_restore, with notes, and a kill inside of one save."""

    def __init__(self, kill: Kill | None, seconds: dict[str, float]) -> None:
        self._write, self._kill, self._seconds, self._saves = states.write, kill, seconds, 0

    def __call__(self, folder: Path, state: Any, *more: Any) -> Path:
        self._saves += 1
        began, step = time.monotonic(), state["loop"]["step"]
        mark("saving", step)
        if self._kill is not None and self._kill.kind == "save" and self._saves == self._kill.at:
            die_after(self._kill.share * 1.15 * self._seconds["save"])
        path = self._write(folder, state, *more)
        mark("saved", step, time.monotonic() - began)
        return path


# -- one process -------------------------------------------------------------------------------


def batches(form: str) -> Any:
    if form == "loader":
        return DataLoader(Jittered(), 8, shuffle=True, generator=torch.Generator().manual_seed(9))
    return DataLoader(Jittered(), 8, shuffle=True, num_workers=2)


def validation() -> list[Any]:
    return [(TEST_X[i : i + 20], TEST_Y[i : i + 20]) for i in range(0, 60, 20)]


def train(plan: Plan, kill: Kill | None, seconds: dict[str, float]) -> None:
    rng.seed_all(3)
    model = nn.Sequential(
        nn.Linear(8, 600), nn.Dropout(0.3), nn.ReLU(), nn.Linear(600, 600), nn.Linear(600, 2)
    )
    backup = ("backup_and_restore", {"backup_dir": "backup", **plan.settings})
    dies = Dies(kill.hook, kill.at) if kill is not None else Dies("", 0)
    chosen = [Watches(kill, seconds), *callbacks(), dies, Keeps(), backup]
    run = _by_hand if plan.form == "attached" else _by_fit
    optimizer, history = run(plan.form, model, chosen)
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history.history,
            "epochs": history.epoch,
            "why": history.stop_reason,
            "random": rng.capture(),
        },
        "end.pt",
    )


def _by_fit(form: str, model: nn.Module, chosen: list[Any]) -> Any:
    trainer = Trainer(
        model, loss="cross_entropy", optimizer="adam:lr=0.001", metrics=["acc"], accumulate=2,
        seed=5, device="cpu",
    )  # fmt: skip
    data = ((X, Y), 8) if form == "arrays" else (batches(form), None)
    history = trainer.fit(
        data[0], batch_size=data[1], epochs=EPOCHS, callbacks=chosen, verbose=0,
        validation_data=validation(),
    )  # fmt: skip
    return trainer.optimizer, history


def _by_hand(form: str, model: nn.Module, chosen: list[Any]) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    loader = batches(form)
    cross_entropy = nn.functional.cross_entropy
    with hookloop.attach(model, optimizer, callbacks=chosen, epochs=EPOCHS) as loop:
        for _ in loop.epochs():
            model.train()
            for x, y in loop.batches(loader):
                loss = cross_entropy(model(x), y)
                (loss / 2).backward()
                loop.log(loss=loss)
                if loop.batch % 2 or loop.batch == BATCHES - 1:
                    optimizer.step()
                    optimizer.zero_grad()
            model.eval()
            with loop.validation(), torch.no_grad():
                for x, y in loop.batches(validation()):
                    loop.log(loss=cross_entropy(model(x), y))
    return optimizer, loop.history


class Keeps(Callback):
    """Keeps the whole state of the run as it is after each epoch.

    Before backup_and_restore, as a run that is killed after the last epoch was saved only ends.
    """

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self) -> None:
        torch.save(self.loop.state_dict(), "state.pt")


def in_a_process(plan: Plan, kill: Kill | None, seconds: dict[str, float]) -> int:
    """Train in a process of its own; gives its exit status, negative for a signal."""

    def run() -> None:
        if kill is not None and kill.kind == "any time":
            die_after(kill.share * seconds["run"])
        states.write = Noted(kill, seconds)  # type: ignore[assignment]
        train(plan, kill, seconds)

    return forked(run)


# -- one run -----------------------------------------------------------------------------------


@dataclass
class Played:
    """What happened to a run.

    Attributes:
        plan: What was to happen.
        statuses: Exit status of each process.
        died: For each kill that came before the run had ended, where the process was then.
        anew: How many marks there were when it last began anew, having ended.
        differs: Where what it left differs from what the undisturbed run left.
        wrong: What else was not as promised.
    """

    plan: Plan
    statuses: list[int] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    anew: int = 0
    differs: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def play(plan: Plan, folder: Path, seconds: dict[str, float]) -> Played:
    """Start a run as often as it takes, in a folder of its own."""
    folder.mkdir()
    os.chdir(folder)
    played = Played(plan)
    for kill in (*plan.kills, None):
        if not any(Path("backup").glob("state-*")):
            # Killed before anything was saved, so it begins afresh: the event files that are there
            # are those of another run, as far as anybody can know, and TensorBoard shows both.
            shutil.rmtree("logs", ignore_errors=True)
            if played.died[-1:] == ["ending"]:
                played.anew = len(lines())
        before, since = sums(), len(lines())
        status = in_a_process(plan, kill, seconds)
        played.statuses.append(status)
        if played.died and marks("restored", since):
            check_restart(played, since)
        if status != -signal.SIGKILL:
            break
        played.died.append(where(since))
        if played.died[-1] in ("starting", "resuming") and sums() != before:
            played.wrong.append("a restart that was killed has changed the saved states")
    if played.statuses[-1]:
        played.wrong.append(f"a process ended with {played.statuses[-1]}")
    if (left := sorted(path.name for path in Path("backup").glob("*"))) and not played.wrong:
        played.wrong.append(f"the finished run left {left}")
    return played


def where(since: int) -> str:
    """Tell in the midst of what the last process died."""
    if not marks("begin", since):
        return "starting"
    if not marks("restored", since):
        return "resuming"
    if marks("ended", since):
        return "ending"
    saving = len(marks("saving", since)) > len(marks("saved", since))
    return "saving" if saving else "training"


def check_restart(played: Played, since: int) -> None:
    """A run goes on from the last acknowledged save, or the one that was being written.

    One that had ended may begin anew: it was killed after its states were deleted.
    """
    everything = lines()[played.anew : since]
    saved = [int(line.split()[1]) for line in everything if line.startswith("saved")]
    tried = [int(line.split()[1]) for line in everything if line.startswith("saving")]
    step = int(marks("restored", since)[0][1])
    if not max(saved, default=0) <= step <= max(tried, default=0):
        played.wrong.append(f"went on from step {step}, though {saved[-1:]} was saved")


def sums() -> dict[str, str]:
    """The SHA-256 sums of all saved states."""
    found = sorted(path for path in Path("backup").glob("state-*/*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in found}


def outcome(folder: Path) -> dict[str, Any]:
    """What a run left: its state, and its files."""
    curves = {}
    for part in sorted(folder.glob("logs/*")):
        read = EventAccumulator(str(part), {"scalars": 0, "tensors": 0}).Reload()
        for tag in sorted(read.Tags()["scalars"]):
            curves[f"{part.name}/{tag}"] = [(one.step, one.value) for one in read.Scalars(tag)]
    states = {
        name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("state", "best")
    }
    for one in states.values():
        one.pop("made", None)  # when, and by which versions
        del one["callbacks"]["backup_and_restore"]  # its settings differ by plan
        del one["callbacks"]["tensorboard"]["state"]["files"]  # named after the process
        for data in one["rng"]["data"].get("passes", ()):
            del data["kept"]  # not known in the first epoch of a process
    return {
        **states,
        "end": torch.load(folder / "end.pt", weights_only=True),
        "csv": (folder / "log.csv").read_text(),
        "curves": curves,
    }


# -- all of them -------------------------------------------------------------------------------


class Campaign:
    """Kills until there were enough, and counts.

    Args:
        root: Folder for the runs; those that went well are deleted.
        seed: Decides everything that is drawn.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._seed = root, seed
        self._expected: dict[str, dict[str, Any]] = {}
        self._times: dict[str, list[float]] = {"save": [], "resume": [], "run": []}
        self.runs: list[Played] = []

    @property
    def kills(self) -> int:
        return sum(len(run.died) for run in self.runs)

    def play(self, number: int) -> Played:
        """Play one run, and compare it."""
        plan = drawn(self._seed, number)
        expected = self._undisturbed(plan.form)
        folder = self._root / f"run-{number}"
        played = play(plan, folder, self._seconds())
        if not played.statuses[-1]:
            played.differs = differences(expected, outcome(folder))
        self._measure()
        self.runs.append(played)
        if not (played.differs or played.wrong):
            shutil.rmtree(folder)
        return played

    def _undisturbed(self, form: str) -> dict[str, Any]:
        if form not in self._expected:
            plan, folder = Plan(-1, form, {"save_freq": 3}), self._root / f"whole-{form}"
            began = time.monotonic()
            played = play(plan, folder, {})
            assert (played.statuses, played.wrong) == ([0], [])
            self._times["run"].append(time.monotonic() - began)
            self._measure()
            self._expected[form] = found = outcome(folder)
            rates = found["end"]["history"]["lr"]
            assert len(found["end"]["epochs"]) < EPOCHS, "early stopping was to stop this run"
            assert any(new < 0.6 * old for old, new in pairwise(rates)), rates
        return self._expected[form]

    def _measure(self) -> None:
        """Note how long saves and restarts took, for kills in the midst of them."""
        self._times["save"] += [float(line[2]) for line in marks("saved")]
        self._times["resume"] += [float(line[2]) for line in marks("restored") if line[1] != "0"]

    def _seconds(self) -> dict[str, float]:
        found = {kind: statistics.median(taken) for kind, taken in self._times.items() if taken}
        return {"save": 0.05, "resume": 0.1, "run": 2.0, **found}

    def table(self) -> str:
        """Give what was killed where, and what came of it."""
        of: Counter[tuple[str, str]] = Counter()
        for run in self.runs:
            of.update((k.kind, died) for k, died in zip(run.plan.kills, run.died, strict=False))
        places = ("starting", "resuming", "training", "saving", "ending")
        lines = ["| aimed at | kills |" + "".join(f" died {place} |" for place in places)]
        lines.append("|---|---|" + "---|" * len(places))
        for kind in KINDS:
            found = [of[kind, place] for place in places]
            lines.append(f"| {kind} | {sum(found)} |" + "".join(f" {n} |" for n in found))
        several = sum(len(run.died) > 1 for run in self.runs)
        bad = [run for run in self.runs if run.differs or run.wrong]
        took = ", ".join(f"{kind} {1000 * s:.0f} ms" for kind, s in self._seconds().items())
        lines.append("")
        lines.append(
            f"seed {self._seed}: {self.kills} kills in {len(self.runs)} runs, {several} of them "
            f"killed several times; {len(self.runs) - len(bad)} ended bit for bit as the "
            f"undisturbed run, {len(bad)} did not (median {took})"
        )
        return "\n".join(lines)


def warm_up(root: Path) -> None:
    """Import once for all forks what is imported late; start no thread, which none would have."""
    hookloop.load_callbacks([*callbacks(), "backup_and_restore:backup_dir=backup"])
    import torch.utils.tensorboard  # noqa: F401

    model = nn.Linear(8, 2)
    trainer = Trainer(model, loss="cross_entropy", optimizer="adam", device="cpu")
    trainer.fit((X, Y), verbose=0)
    with hookloop.attach(model, trainer.optimizer, epochs=1) as loop:
        for _ in loop.epochs():
            pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, default=None, help="number of one run to play again")
    parser.add_argument("--to", type=Path, default=None, help="file for the same as JSON")
    chosen = parser.parse_args()
    to = chosen.to.resolve() if chosen.to is not None else None
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    torch.set_num_threads(1)
    root = chosen.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    warm_up(root)
    campaign, began = Campaign(root, seed), time.monotonic()
    number = 0 if chosen.only is None else chosen.only
    while not campaign.runs or (chosen.only is None and campaign.kills < chosen.kills):
        run = campaign.play(number)
        said = "; ".join([*run.differs[:3], *run.wrong]) or "same"
        killed = ", ".join(f"{k.kind}: {d}" for k, d in zip(run.plan.kills, run.died, strict=False))
        print(f"{number} {run.plan.form} {run.plan.settings} [{killed}] {said}", flush=True)
        number += 1
    print(f"\n{campaign.table()}\n{time.monotonic() - began:.0f} s", flush=True)
    if to is not None:
        to.write_text(json.dumps({"seed": seed, "runs": [asdict(run) for run in campaign.runs]}))
    return int(any(run.differs or run.wrong for run in campaign.runs))


if __name__ == "__main__":
    sys.exit(main())
