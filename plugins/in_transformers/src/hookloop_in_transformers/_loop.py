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
    how_to_validate = "pass eval_dataset=, and eval_strategy='epoch'"


class Outputs:
    """Has a loop know what its model returned last, until the run is over.

    Args:
        run: Whose loop.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._models = run, [None]

    def watch(self, model: Any) -> None:
        """Watch what is called as the model: the user's own, or what torch.compile made of it."""
        if model is self._models[-1] or any(model is one for one in self._models):
            return
        self._models.append(model)
        self._run.when_over(model.register_forward_hook(self._keep).remove)

    def _keep(self, module: Any, inputs: Any, outputs: Any) -> None:
        self._run.loop.outputs = outputs


def targets_of(trainer: Any, inputs: Mapping[str, Any]) -> Any:
    """Find the labels in a batch: one by itself, several as a mapping; None if there are none."""
    found = {name: inputs[name] for name in trainer.label_names if name in inputs}
    return next(iter(found.values())) if len(found) == 1 else found or None
