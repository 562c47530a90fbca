"""What callbacks see of a Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.capabilities import HOSTS
from hookloop.hosting import BridgeLoop, Run


class TransformersLoop(BridgeLoop):
    """The loop of a ``transformers.Trainer``."""

    host = "transformers"
    features = HOSTS[host]


def watch_outputs(run: Run) -> None:
    """Have the loop know what its model returned last, until the run is over."""
    loop = run.loop

    def keep(module: Any, inputs: Any, outputs: Any) -> None:
        loop.outputs = outputs

    run.when_over(loop.model.register_forward_hook(keep).remove)


def targets_of(trainer: Any, inputs: Mapping[str, Any]) -> Any:
    """Find the labels in a batch: one by itself, several as a mapping; None if there are none."""
    found = {name: inputs[name] for name in trainer.label_names if name in inputs}
    return next(iter(found.values())) if len(found) == 1 else found or None
