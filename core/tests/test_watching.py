"""What the kit sees a batch hook do, and what it takes for nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hookloop import Callback
from hookloop.hookspecs import hookimpl
from hookloop.testing import TinyLoop
from hookloop.testing.watching import Watcher


class Does(Callback):
    """Runs a line of code at the end of every batch."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.total, self.kept = torch.zeros(()), [0.0]

    def on_train_batch_end(self, loop: Any, logs: Any) -> None:
        exec(self.line, {"torch": torch, "self": self, "loop": loop, "logs": logs})


def seen(line: str) -> set[str]:
    tiny = TinyLoop(epochs=1)
    callback = Does(line)
    watcher = Watcher(callback, tiny)
    tiny.fit([callback])
    return {what for what, hooks in watcher.found.items() if hooks == ["on_train_batch_end"]}


@pytest.mark.parametrize(
    "line",
    [
        "logs['loss']",
        "logs.get('mae')",
        "dict(logs)",
        "list(logs.items())",
        "{**logs}",
        "loop.logs['loss']",
        "loop.loss.item()",
        "float(loop.loss.detach())",
        "int(loop.loss.detach())",
        "bool(loop.loss)",
        "loop.loss.tolist()",
        "loop.outputs.detach().cpu()",
        "loop.outputs.detach().numpy()",
        "loop.outputs.detach().to('cpu')",
        "f'{loop.loss:.2f}'",
        "str(loop.loss)",
        "torch.equal(loop.outputs, loop.outputs)",
    ],
)
def test_whatever_reads_a_number_from_the_device_is_seen(line: str) -> None:
    """By way of the logs, or of the batch's own tensors."""
    assert "reads" in seen(line)


@pytest.mark.parametrize(
    "line",
    ["loop.outputs * 2", "loop.loss.detach().clone()", "torch.zeros(3)", "loop.outputs > 0"],
)
def test_whatever_allocates_a_tensor_is_seen(line: str) -> None:
    """And is not taken for a read."""
    assert seen(line) == {"allocates"}


@pytest.mark.parametrize(
    "line",
    [
        "logs['size']",
        "'loss' in logs",
        "logs.raw('loss')",
        "self.total.add_(loop.loss.detach())",
        "loop.outputs.detach().view(-1)",
        "loop.outputs.shape, loop.outputs.device, len(loop.outputs)",
        "self.kept.append(loop.step)",
    ],
)
def test_what_costs_nothing_is_let_pass(line: str) -> None:
    """Names, sizes, unread values, views, and what is added in place."""
    assert seen(line) == set()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("loop.log(seen=1.0)", {"logs"}),
        ("logs.pop('mae', None)", {"logs", "reads"}),
        ("loop.optimizer.param_groups[0]['lr'] = 0.3", {"optimizer"}),
        ("loop.optimizer.state.clear()", {"optimizer"}),
        ("loop.model.eval()", {"model"}),
        ("loop.model[0].weight.grad.zero_()", {"model"}),
        ("loop.model[0].requires_grad_(False)", {"model"}),
        ("torch.rand(1)", {"rng", "allocates"}),
        ("loop.stop('enough')", {"stop"}),
        ("loop.model.stop_training = True", {"stop"}),
    ],
)
def test_what_a_hook_changes_is_seen(line: str, what: set[str]) -> None:
    """Each by its own name."""
    assert seen(line) == what


def test_a_wrapper_is_watched_around_what_it_wraps() -> None:
    """What the others do in between is not its own."""

    class Wraps(Callback):
        @hookimpl(wrapper=True)
        def on_epoch_end(self, logs: Any) -> Any:
            result = yield
            logs["wrapped"] = 1.0
            return result

    class Stops(Callback):
        def on_epoch_end(self) -> None:
            self.loop.stop("enough")

    tiny, callback = TinyLoop(), Wraps()
    watcher = Watcher(callback, tiny)
    history = tiny.fit([callback, Stops()])
    assert history.stop_reason == "enough"
    assert watcher.found == {"logs": ["on_epoch_end"]}


def test_what_is_watched_is_called_as_before() -> None:
    """In its place in the order, and with the arguments that it asks for."""
    order: list[str] = []

    class First(Callback):
        @hookimpl(tryfirst=True)
        def on_epoch_end(self, epoch: int) -> None:
            order.append(f"first {epoch}")

    class Second(Callback):
        def on_epoch_end(self) -> None:
            order.append("second")

    tiny, first = TinyLoop(epochs=1), First()
    Watcher(first, tiny)
    tiny.fit([Second(), first])
    assert order == ["first 0", "second"]
