"""A loop by hand with Accelerate, which has no callbacks: what others have ready is written out."""

from __future__ import annotations

import csv
import math
import shutil
from typing import Any

import torch
from accelerate import Accelerator
from jobs import Job, Terminal
from tqdm import tqdm

MODULE = "accelerate"


class Ends:
    """What is done at the end of an epoch."""

    def __init__(self, job: Job, accelerator: Accelerator, optimizer: Any) -> None:
        self.job, self.accelerator = job, accelerator
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        self.best, self.wait = math.inf, 0

    def __call__(self, epoch: int, loss: float) -> bool:
        """Give whether to stop."""
        self.save(epoch)
        if self.job.callbacks != "realistic":
            return False
        with open(self.job.folder / "accelerate.csv", "a", newline="") as file:
            csv.writer(file).writerow([epoch, loss])
        self.schedule.step(loss)
        self.wait = 0 if loss < self.best else self.wait + 1
        self.best = min(self.best, loss)
        return self.wait > 1000 or math.isnan(loss)

    def save(self, epoch: int) -> None:
        folder = self.job.folder / "accelerate"
        self.accelerator.save_state(str(folder / str(epoch)))
        shutil.rmtree(folder / str(epoch - 2), ignore_errors=True)


def train(job: Job) -> None:
    accelerator = Accelerator(cpu=job.device == "cpu")
    model, optimizer = job.net(), None
    optimizer = torch.optim.Adam(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    ends = None if job.callbacks == "off" else Ends(job, accelerator, optimizer.optimizer)
    shown = job.callbacks == "realistic"
    for epoch in range(job.epochs):
        total = torch.zeros((), device=job.device)
        samples = 0
        model.train()
        batches = tqdm(job.batches, file=Terminal()) if shown else job.batches
        for x, y in batches:
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            total += loss.detach() * len(x)
            samples += len(x)
        if ends is not None and ends(epoch, total.item() / samples):
            break
