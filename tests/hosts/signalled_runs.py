"""Runs that are signalled while they train, each in a process of its own, a fork of this one.

`python signalled_runs.py FOLDER SEED PLAYS`, where plays are ``[[host, signal, how many], ...]``:
plays a run of each host undisturbed, and then so many with a signal at a random time; one that ends
of it is started again. SIGKILL is sent shortly after SIGTERM, to a run whose disk is slow. Prints
what came out of each, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from comparing import differences
from forks import leave_after, status_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hookloop
from hookloop import Callback, Trainer, files, hookimpl, rng

EPOCHS = 4
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(60, 4, generator=GENERATOR)
Y = (X.sum(1) > 0).long()


class Shows(Callback):
    """Says through a pipe how far training is, and keeps the state as it is in the end."""

    def __init__(self, pipe: int) -> None:
        self.pipe, self.batches = pipe, 0

    def on_train_batch_end(self) -> None:
        self.batches += 1
        if self.pipe >= 0:
            os.write(self.pipe, b".")

    def on_message(self, text: str) -> bool:
        with open("said.txt", "a") as file:
            file.write(f"{text}\n")
        return True

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self) -> None:
        torch.save(self.loop.state_dict(), "end.pt")

    def on_train_end(self) -> None:
        with open("batches.txt", "a") as file:
            file.write(f"{self.batches}\n")


def model() -> nn.Module:
    layers = [layer for _ in range(8) for layer in (nn.Linear(4, 4), nn.Tanh())]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(4, 2))


def callbacks(pipe: int) -> list[Any]:
    backup = "backup_and_restore:backup_dir=backup,save_freq=7,save_on_sigusr1=true"
    watches = ["early_stopping:patience=9", "reduce_lr_on_plateau:patience=1,factor=0.5"]
    return [Shows(pipe), *watches, "csv_logger:filename=log.csv", backup]


def fit(pipe: int) -> None:
    trainer = Trainer(model(), loss="cross_entropy", optimizer="adam:lr=0.05", seed=5, device="cpu")
    validation = [(X[:30], Y[:30]), (X[30:], Y[30:])]
    arguments = {"epochs": EPOCHS, "batch_size": 4, "validation_data": validation, "verbose": 0}
    trainer.fit((X, Y), callbacks=callbacks(pipe), **arguments)


def attach(pipe: int) -> None:
    rng.seed_all(5)
    trained = model()
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.05)
    loader = DataLoader(TensorDataset(X, Y), 4, shuffle=True)
    chosen = callbacks(pipe)
    with hookloop.attach(trained, optimizer, callbacks=chosen, epochs=EPOCHS) as loop:
        for _ in loop.epochs():
            trained.train()
            for x, y in loop.batches(loader):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(trained(x), y)
                loss.backward()
                optimizer.step()
                loop.log(loss=loss)
            trained.eval()
            with loop.validation(), torch.no_grad():
                for x, y in loop.batches([(X[:30], Y[:30]), (X[30:], Y[30:])]):
                    loop.log(loss=nn.functional.cross_entropy(trained(x), y))


HOSTS = {"fit": fit, "attach": attach}


class Slow(files.Disk):
    """A disk on which a save takes longer than the grace that there is."""

    def sync(self, file: Any) -> None:
        time.sleep(0.1)
        super().sync(file)


def warm_up() -> None:
    """Import once for all forks what is imported late; start no thread, which none would have."""
    hookloop.load_callbacks(callbacks(-1))
    trainer = Trainer(model(), loss="cross_entropy", optimizer="adam", device="cpu")
    trainer.fit((X, Y), verbose=0)


def in_a_process(host: str, number: int | None = None, batch: int = 0, after: float = 0.0) -> int:
    """Train in a fork, signalled so long after a batch; gives its status, negative for a signal."""
    listens, speaks = os.pipe()
    child = os.fork()
    if not child:
        os.close(listens)
        if number == signal.SIGKILL:
            files.disk = Slow()
        elif number is not None:  # before and after the run, which has to put that back
            signal.signal(number, signal.SIG_IGN)
        leave_after(lambda: HOSTS[host](speaks))
    os.close(speaks)
    with open(listens, "rb", buffering=0) as pipe:
        if number is not None:
            for _ in range(batch):
                pipe.read(1)
            time.sleep(after)
            if number == signal.SIGKILL:
                os.kill(child, signal.SIGTERM)
                time.sleep(0.2)
            os.kill(child, number)  # it was not waited for yet, so the number is its own
        while pipe.read(1000):  # or it would die of a pipe that nobody reads
            pass
    return status_of(child)


def play(root: Path, host: str, *signalled: Any) -> dict[str, Any]:
    root.mkdir()
    os.chdir(root)
    statuses = [in_a_process(host, *signalled)]
    while statuses[-1] not in (0, 1) and len(statuses) < 4:
        statuses.append(in_a_process(host))
    said = Path("said.txt").read_text() if Path("said.txt").exists() else ""
    batches = list(map(int, Path("batches.txt").read_text().split()))
    return {"statuses": statuses, "said": said, "batches": batches}


def outcome(root: Path) -> dict[str, Any]:
    state = torch.load(root / "end.pt", weights_only=True)
    return {"state": state, "csv": (root / "log.csv").read_text()}


def played(folder: Path, host: str, number: int, count: int, drawn: random.Random) -> list[Any]:
    """Play the runs of one host and signal, and compare each with the undisturbed one."""
    whole = play(folder / "whole", host)
    results = []
    for index in range(count):
        when = (drawn.randint(1, sum(whole["batches"]) - 3), drawn.uniform(0.0, 0.01))
        result = play(folder / str(index), host, number, *when)
        result["differs"] = differences(outcome(folder / "whole"), outcome(folder / str(index)))
        results.append({**result, "when": when})
    return results


def main() -> None:
    folder, seed, plays = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    warm_up()
    drawn, results = random.Random(seed), {}
    for host, number, count in plays:
        own = folder / f"{host}-{number}"
        own.mkdir()
        results[own.name] = played(own, host, number, count, drawn)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
