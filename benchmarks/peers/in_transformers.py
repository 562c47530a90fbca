"""The Trainer of Hugging Face's transformers.

It stops early only after an evaluation, which nobody else here has: stopping is a callback of ours
that looks at the loss of each epoch. A CSV it does not write: that is one too.
"""

from __future__ import annotations

import contextlib
import csv
import warnings
from typing import Any

from jobs import Job, Terminal
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

MODULE = "transformers"


class Model(nn.Module):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.net, self.job = job.net(), job

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.net(x)
        return {"loss": self.job.loss(outputs, labels), "logits": outputs}


class Batches:
    """The batches as mappings, which its Trainer wants."""

    def __init__(self, job: Job) -> None:
        self.batches = job.batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return ({"x": x, "labels": y} for x, y in self.batches)


class Ready(Trainer):
    """Takes the batches as they are."""

    job: Job

    def get_train_dataloader(self) -> Any:
        return Batches(self.job)


class Nothing(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        pass

    def on_step_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        pass


class Stopping(TrainerCallback):
    """Stops if the loss has not fallen for a thousand epochs, and writes each into a CSV."""

    def __init__(self, job: Job) -> None:
        self.path, self.best, self.wait = job.folder / "hf.csv", float("inf"), 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **about: Any) -> None:
        if "loss" not in logs:
            return
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow([state.epoch, logs["loss"]])
        self.wait = 0 if logs["loss"] < self.best else self.wait + 1
        self.best = min(self.best, logs["loss"])
        control.should_training_stop |= self.wait > 1000


def train(job: Job) -> None:
    real = job.callbacks == "realistic"
    logging.set_verbosity_error()
    arguments = TrainingArguments(
        output_dir=str(job.folder / "hf"),
        num_train_epochs=job.epochs,
        optim="adamw_torch",
        learning_rate=1e-3,
        lr_scheduler_type="linear" if real else "constant",
        max_grad_norm=0.0,
        save_strategy="epoch" if job.callbacks in {"realistic", "saving"} else "no",
        save_total_limit=2,
        logging_strategy="epoch" if real else "no",
        report_to=[],
        disable_tqdm=not real,
        use_cpu=job.device == "cpu",
    )
    extra: list[Any] = [Nothing() for _ in range(5)] if job.callbacks == "nothing" else []
    extra += [Stopping(job)] if real else []
    sink = Terminal()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        warnings.simplefilter("ignore")
        trainer = Ready(Model(job), arguments, train_dataset=[0], callbacks=extra)
        trainer.job = job
        trainer.train()
