"""The step of Hugging Face's Trainer on the tiny model, with a bridge or without."""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import torch
from hookloop_in_transformers import HookloopCallback
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

WARM_UP = 20


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.net(x)
        return {"loss": nn.functional.mse_loss(outputs, labels), "logits": outputs}


class Clock(TrainerCallback):
    """Takes the time from the end of the warm-up to the end of the last step."""

    def __init__(self, steps: int) -> None:
        self.last = WARM_UP + steps
        self.began = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        if state.global_step == WARM_UP:
            self.began = time.perf_counter()
        elif state.global_step == self.last:
            self.ended = time.perf_counter()


def step_seconds(callbacks: list[Any] | None, steps: int) -> float:
    """Train one epoch and give the seconds a step, without those of the warm-up.

    Args:
        callbacks: What the bridge carries; None for no bridge at all.
        steps: How many steps are timed.
    """
    torch.manual_seed(0)
    batch = {"x": torch.randn(32, 16), "labels": torch.randn(32, 1)}
    clock = Clock(steps)
    bridges = [] if callbacks is None else [HookloopCallback(callbacks)]
    arguments = TrainingArguments(
        output_dir="checkpoints",
        num_train_epochs=1,
        per_device_train_batch_size=1,  # the "samples" are ready-made batches
        optim="adamw_torch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        Tiny(),
        arguments,
        train_dataset=[batch] * clock.last,
        data_collator=lambda rows: rows[0],
        callbacks=[*bridges, clock],
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a summary
        trainer.train()
    return (clock.ended - clock.began) / steps
