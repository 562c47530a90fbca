"""The killed runs of backup_and_restore, in a loop written by hand instead of `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import killed_runs as runs
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import hookloop
from hookloop import files, rng


class Jittered(Dataset[Any]):
    """Augments with random numbers, in the workers if there are any."""

    def __len__(self) -> int:
        return len(runs.X)

    def __getitem__(self, index: int) -> Any:
        return runs.X[index] + 0.1 * torch.randn(4), runs.Y[index]


def loader(kind: str) -> Any:
    own = torch.Generator().manual_seed(9) if kind == "generator" else None
    if kind == "list":
        return [(runs.X[i : i + 5], runs.Y[i : i + 5]) for i in range(0, 50, 5)]
    if kind == "workers":
        return DataLoader(Jittered(), 5, shuffle=True, num_workers=2)
    data = TensorDataset(runs.X, runs.Y)
    if kind == "persistent":
        return DataLoader(data, 5, shuffle=True, num_workers=2, persistent_workers=True)
    return DataLoader(data, 5, shuffle=True, generator=own)


def train(ending: dict[str, Any] | None, data: str, **settings: Any) -> Any:
    rng.seed_all(3)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], gamma=0.7)
    keeps = runs.Keeps()
    backup = ("backup_and_restore", {"backup_dir": "backup", **settings})
    chosen = [keeps, *runs.CALLBACKS, backup]
    if ending and "disk" in ending:
        files.disk = runs.DiskEnds(ending["disk"])
    elif ending:
        chosen.append(runs.Ends(**ending))
    batches = loader(data)
    attached = hookloop.attach(
        model, optimizer, callbacks=chosen, epochs=runs.EPOCHS, stateful=scheduler
    )
    try:
        with attached as loop:
            for _ in loop.epochs():
                train_epoch(loop, model, optimizer, batches)
                scheduler.step()
                validate(loop, model)
    finally:
        Path("said.txt").write_text("\n".join(keeps.said))
        with open("batches.txt", "a") as file:
            file.write(f"{keeps.batches}\n")
    return keeps


def train_epoch(loop: Any, model: nn.Module, optimizer: Any, batches: Any) -> None:
    model.train()
    optimizer.zero_grad()
    for x, y in loop.batches(batches):
        loss = nn.functional.cross_entropy(model(x), y)
        (loss / 2).backward()
        loop.log(loss=loss)
        if loop.batch % 2 or loop.batch == 10:
            optimizer.step()
            optimizer.zero_grad()


def validate(loop: Any, model: nn.Module) -> None:
    model.eval()
    with loop.validation(), torch.no_grad():
        for x, y in loop.batches([(runs.X[i : i + 10], runs.Y[i : i + 10]) for i in (0, 10, 20)]):
            loop.log(loss=nn.functional.cross_entropy(model(x), y))
        torch.rand(3)  # validation may draw numbers


def warm_up() -> None:
    """Import once for all forks what is imported late."""
    hookloop.load_callbacks([*runs.CALLBACKS, "backup_and_restore:backup_dir=backup"])
    nn.functional.cross_entropy(nn.Linear(4, 2)(runs.X), runs.Y).backward()


if __name__ == "__main__":
    runs.train, runs.warm_up = train, warm_up
    runs.main()
