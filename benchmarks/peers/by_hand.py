"""The loop that people write, with the mean loss that they report: what all are measured by."""

from __future__ import annotations

from typing import Any

import torch
from jobs import Job

MODULE = "torch"


def train(job: Job) -> float:
    model = job.net()
    optimizer = torch.optim.Adam(model.parameters())
    # Reading is what people write; on an accelerator those who know better add up there.
    read = torch.Tensor.item if job.device == "cpu" else torch.Tensor.detach
    mean = 0.0
    for epoch in range(job.epochs):
        total: Any = 0.0
        samples = 0
        model.train()
        for x, y in job.batches:
            optimizer.zero_grad()
            loss = job.loss(model(x), y)
            loss.backward()
            optimizer.step()
            total += read(loss) * len(x)
            samples += len(x)
        mean = float(total) / samples
        if job.callbacks == "saving":
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, job.folder / f"{epoch % 2}.pt")
    return mean
