"""The loop that callbacks see in Lightning, and what is known of it when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.capabilities import HOSTS
from hookloop.hosting import BridgeLoop
from hookloop.loop import Loop
from hookloop_in_lightning._framework import Trainer


class LightningLoop(BridgeLoop):
    """The loop of a ``lightning.Trainer``."""

    host = "Lightning"
    features = HOSTS[host]
    how_to_validate = "log it in validation_step, and pass val_dataloaders="


def about(trainer: Trainer, module: Any) -> dict[str, Any]:
    """Gather what every run is told: the module and the place among the processes."""
    return {
        "model": module,
        "optimizers": list(trainer.optimizers),
        "validation_data": trainer.val_dataloaders,
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
    }


def params(trainer: Trainer) -> dict[str, Any]:
    """Tell epochs, batches and samples, as far as Lightning knows them."""
    loader = trainer.train_dataloader
    batches = trainer.num_training_batches
    return {
        "epochs": trainer.max_epochs if trainer.max_epochs not in (None, -1) else None,
        "steps": int(batches) if batches != float("inf") else None,
        "batch_size": getattr(loader, "batch_size", None),
        "samples": _length(getattr(loader, "dataset", None)),
        "do_validation": bool(trainer.enable_validation),
    }


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # there are none, or they have no length
        return None


def prepare(loop: LightningLoop, trainer: Trainer) -> None:
    """Set the schedulers that run, and the steps that were done before callbacks were there."""
    found = [config.scheduler for config in trainer.lr_scheduler_configs]
    loop.schedulers = [one for one in found if hasattr(one, "optimizer")]
    if len(loop.optimizers) == 1:  # Lightning counts the steps of all of them as one number
        loop.step = trainer.global_step
    loop.start = (trainer.current_epoch, 0)


def show(loop: Loop, batch: Any) -> None:
    """Let callbacks see a batch: a pair is inputs and targets, anything else is inputs."""
    if isinstance(batch, list | tuple) and len(batch) == 2:
        loop.inputs, loop.targets = batch
    else:
        loop.inputs, loop.targets = batch, None


def numbers(outputs: Any) -> Mapping[str, Any]:
    """Give what a step returned as a mapping; a tensor by itself is the loss."""
    if isinstance(outputs, Mapping):
        return outputs
    return {} if outputs is None else {"loss": outputs}
