"""Runs that are killed and started again, each in a process of its own.

`python killed_runs.py FOLDER SCENARIOS`: the processes are forks of this one, so that torch is
imported once. Each scenario is a list of ends: where the first process ends, where the second, and
so on; one more runs to the end. Prints what came out of each, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from comparing import differences
from forks import forked
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, Trainer, files, hookimpl, load_callbacks
from hookloop.checkpoints import load_state

EPOCHS = 8
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(52, 4, generator=GENERATOR)
Y = (X.sum(1) > 0).long()
CALLBACKS = [
    "early_stopping:patience=3",
    "reduce_lr_on_plateau:patience=1,factor=0.5",
    "csv_logger:filename=log.csv",
    "model_checkpoint:filepath=best.pt,save_best_only=true",
    "model_checkpoint:filepath=last-{epoch}.weights.pt,keep_last=2,save_freq=5",
]


class Ends(Callback):
    """Ends the process by a signal, at the n-th call of a hook."""

    def __init__(self, hook: str, at: int, number: int = signal.SIGKILL) -> None:
        self.left, self.number = at, number
        setattr(self, hook, self.count)

    def count(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), self.number)


class DiskEnds(files.Disk):
    """Ends the process before the n-th effect on files of the backup."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __getattribute__(self, name: str) -> Any:
        method = object.__getattribute__(self, name)
        if name in ("left", "count") or name.startswith("_"):
            return method
        return lambda *paths: self.count(paths) or method(*paths)

    def count(self, paths: tuple[Any, ...]) -> None:
        if any("state-" in str(getattr(one, "name", one)) for one in paths):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


class Keeps(Callback):
    """Keeps the whole state of the run as it is after each epoch, and what was said."""

    def __init__(self) -> None:
        self.last: Any = None
        self.said: list[str] = []
        self.batches = 0

    def on_train_batch_end(self) -> None:
        self.batches += 1

    def on_message(self, text: str) -> bool:
        self.said.append(text)
        return True

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self) -> None:
        torch.save(self.loop.state_dict(), "end.pt")


def train(ending: dict[str, Any] | None, data: str, **settings: Any) -> Keeps:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 2))
    trainer = Trainer(
        model, loss="cross_entropy", optimizer="adam:lr=0.05", metrics=["acc"], accumulate=2,
        seed=5, device="cpu",
    )  # fmt: skip
    forms = {
        "arrays": ((X, Y), 5),
        "loader": (DataLoader(TensorDataset(X, Y), 5, shuffle=True), None),
        "generator": (
            DataLoader(
                TensorDataset(X, Y), 5, shuffle=True, generator=torch.Generator().manual_seed(9)
            ),
            None,
        ),
        "workers": (DataLoader(TensorDataset(X, Y), 5, shuffle=True, num_workers=2), None),
    }
    train_data, batch_size = forms[data]
    keeps = Keeps()
    backup = ("backup_and_restore", {"backup_dir": "backup", **settings})
    chosen = [keeps, *CALLBACKS, backup]
    if ending and "disk" in ending:
        files.disk = DiskEnds(ending["disk"])
    elif ending:
        chosen.append(Ends(**ending))
    try:
        trainer.fit(
            train_data, epochs=EPOCHS, batch_size=batch_size, callbacks=chosen, verbose=0,
            validation_data=[(X[i : i + 10], Y[i : i + 10]) for i in range(0, 30, 10)],
        )  # fmt: skip
    finally:
        Path("said.txt").write_text("\n".join(keeps.said))
        with open("batches.txt", "a") as file:
            file.write(f"{keeps.batches}\n")
    return keeps


def in_a_process(ending: dict[str, Any] | None, scenario: dict[str, Any]) -> int:
    """Train in a process of its own; gives its exit status, negative for a signal."""
    data, settings = scenario.get("data", "arrays"), scenario.get("settings", {})
    return forked(lambda: train(ending, data, **settings))


def outcome(folder: Path) -> dict[str, Any]:
    """What a run left: its state, and its files."""
    weights = sorted(path.name for path in folder.glob("last-*.weights.pt"))
    states = {name: load_state(folder / f"{name}.pt") for name in ("end", "best")}
    for state in states.values():  # what the scenario adds, with settings of its own
        for name in ("backup_and_restore", "ends"):
            state["callbacks"].pop(name, None)
    return {
        "state": states["end"],
        "best": states["best"],
        "csv": (folder / "log.csv").read_text(),
        "last": {name: torch.load(folder / name, weights_only=True) for name in weights},
    }


def play(name: str, scenario: dict[str, Any], root: Path) -> dict[str, Any]:
    folder = root / name
    folder.mkdir()
    os.chdir(folder)
    statuses, left = [], []
    for ending in (*scenario["ends"], None):
        statuses.append(in_a_process(ending, scenario))
        left.append(sorted(path.name for path in Path("backup").glob("*")))
    return {
        "statuses": statuses,
        "left": left,
        "said": Path("said.txt").read_text(),
        "batches": [int(line) for line in Path("batches.txt").read_text().split()],
        "folder": str(folder),
    }


def warm_up() -> None:
    """Import once for all forks what is imported late; start no thread, which none would have."""
    load_callbacks([*CALLBACKS, "backup_and_restore:backup_dir=backup"])
    model = nn.Linear(4, 2)
    trainer = Trainer(model, loss="cross_entropy", optimizer="adam", device="cpu")
    trainer.fit((X, Y), verbose=0)
    trainer.evaluate((X, Y), verbose=0)


def main() -> None:
    torch.set_num_threads(1)
    warm_up()
    root, scenarios = Path(sys.argv[1]), json.loads(sys.argv[2])
    results = {}
    undisturbed: dict[str, Any] = {}
    for name, scenario in scenarios.items():
        data = scenario.get("data", "arrays")
        if data not in undisturbed:
            play(f"whole-{data}", {**scenario, "ends": []}, root)
            undisturbed[data] = outcome(root / f"whole-{data}")
        results[name] = play(name, scenario, root)
        results[name]["differs"] = differences(undisturbed[data], outcome(root / name))
        results[name]["epochs"] = undisturbed[data]["state"]["history"]["epoch"]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
