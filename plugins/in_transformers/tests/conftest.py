"""What the tests share: a model, data and arguments for a real Trainer, and a callback that notes.

One epoch is ten batches of 16, in order; SGD with a constant rate of 0.1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported

import agreement
import pytest
import torch
from hookloop_in_transformers import HookloopCallback
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from hookloop import Callback, hookspecs


class Net(nn.Sequential):
    """The model of `agreement`, as the Trainer wants one: with its loss."""

    def __init__(self) -> None:
        super().__init__(*agreement.model())

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        outputs = super().forward(x)
        if labels is None:
            return {"logits": outputs}
        return {"loss": nn.functional.mse_loss(outputs, labels), "logits": outputs}


class Notes(Callback):
    """Notes each hook: its name, its index, and a copy of its logs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def named(self, *hooks: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in hooks]

    def logs(self, hook: str) -> list[dict[str, Any]]:
        return [call[-1] for call in self.named(hook)]

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


def _noting(hook: str) -> Any:
    @hookspecs.hookimpl(trylast=True)
    def note(self: Notes, **arguments: Any) -> None:
        index = [arguments[key] for key in ("epoch", "batch") if key in arguments]
        self.calls.append((hook, *index, dict(arguments.get("logs", {}))))

    return note


for _hook in hookspecs.names():
    if _hook != "on_message":
        setattr(Notes, _hook, _noting(_hook))


class Doing(Callback):
    """Does something in one hook."""

    def __init__(self, hook: str, act: Callable[..., None], name: str = "doing") -> None:
        self.name = name
        setattr(self, hook, lambda loop, **_: act(loop))


def data(split: str = "training") -> list[dict[str, Tensor]]:
    return [{"x": x, "labels": y} for x, y in zip(*agreement.arrays(split), strict=True)]


class Make:
    """Makes trainers in one folder.

    Attributes:
        folder: Where they write.
    """

    Net, Notes, Doing, data = Net, Notes, Doing, staticmethod(data)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arguments(self, **settings: Any) -> TrainingArguments:
        usual = {
            "output_dir": str(self.folder / "checkpoints"),
            "num_train_epochs": 3,
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 16,
            "train_sampling_strategy": "sequential",
            "learning_rate": 0.1,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "eval_strategy": "no",
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
        }
        return TrainingArguments(**{**usual, **settings})

    def trainer(
        self,
        callbacks: Any,
        *,
        kind: type[Trainer] = Trainer,
        model: nn.Module | None = None,
        others: Sequence[Any] = (),
        train: Any = None,
        tests: Any = None,
        about: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Trainer:
        bridges = callbacks if isinstance(callbacks, HookloopCallback) else None
        return kind(
            model or Net(),
            self.arguments(**settings),
            train_dataset=data() if train is None else train,
            eval_dataset=data("validation") if tests is None else tests,
            callbacks=[bridges or HookloopCallback(callbacks), *others],
            **(about or {}),
        )


@pytest.fixture
def make(tmp_path: Path) -> Make:
    torch.manual_seed(0)
    return Make(tmp_path)


@pytest.fixture(autouse=True)
def _quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """The Trainer prints what it logs."""
