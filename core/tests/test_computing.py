"""Computing: a compiled step gives what the plain one gives, or one line says why it is plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import Trainer

X = torch.randn(70, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :1] + 0.5
REAL = torch.compile
# Of torch, about itself, while it compiles.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


def made() -> nn.Sequential:
    """Batch normalization has buffers that a further call would change, dropout draws numbers."""
    torch.manual_seed(0)
    parts = (nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    return nn.Sequential(nn.Linear(8, 16), *parts)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.size = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"kind": self.kind(x), "size": self.size(x)}


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Choose what torch.compile makes of a graph; the usual one needs a C++ compiler and time."""

    def choose(which: Any) -> None:
        torch._dynamo.reset()

        def compiled(function: Any, options: Any = None) -> Any:
            assert options == {"fallback_random": True}
            return REAL(function, backend=which)

        monkeypatch.setattr(torch, "compile", compiled)

    return choose


def fit(model: nn.Module, y: Any = Y, **options: Any) -> dict[str, Any]:
    """Train, evaluate and predict, with a last batch that is smaller; give all that came of it."""
    options = {"loss": "mse", "optimizer": "sgd:lr=0.1", "seed": 1, **options}
    trainer = Trainer(model, device="cpu", **options)
    history = trainer.fit((X, y), epochs=2, validation_data=(X, y), verbose=0)
    predicted = trainer.predict(X, verbose=0)
    outputs = predicted if isinstance(predicted, dict) else {"": predicted}
    return {**model.state_dict(), **outputs, "numbers": torch.tensor([*history.history.values()])}


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Equal but for the last bits: the tolerance that docs/trainer.md states."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("which", ["eager", "aot_eager"])
def test_a_compiled_run_gives_what_a_plain_one_gives(which: str, backend: Any) -> None:
    """Weights, running statistics, history and predictions; dropout draws the same numbers."""
    wanted = fit(made())
    backend(which)
    assert_same(fit(made(), compile=True), wanted)


def test_several_outputs_and_accumulation_are_compiled_too(backend: Any) -> None:
    """The loss of each output reaches the logs as it does without."""
    y = {"kind": (X[:, 0] > 0).long(), "size": Y}
    several = {"loss": {"kind": "cross_entropy", "size": "mse"}, "accumulate": 2}
    wanted = fit(Two(), y, **several)
    backend("aot_eager")
    assert_same(fit(Two(), y, compile=True, **several), wanted)


def test_forward_and_loss_are_one_graph_whose_backward_is_compiled(backend: Any) -> None:
    """The compiler is given the operation of the loss in the graph of the model, and gradients."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    graphs: dict[str, list[str]] = {"forward": [], "backward": []}

    def noting(kind: str) -> Callable[..., Any]:
        def compiler(graph: Any, example: Any) -> Any:
            graphs[kind].append(str(graph.graph))
            return make_boxed_func(graph.forward)

        return compiler

    backend(aot_autograd(fw_compiler=noting("forward"), bw_compiler=noting("backward")))
    trainer = Trainer(made(), loss="mse", optimizer="sgd:lr=0.1", device="cpu", compile=True)
    trainer.fit((X[:32], Y[:32]), verbose=0)

    assert len(graphs["forward"]) == len(graphs["backward"]) == 1
    assert "mse_loss" in graphs["forward"][0] or "aten.pow" in graphs["forward"][0]
    assert "aten.addmm" in graphs["forward"][0]
    assert "aten.mm" in graphs["backward"][0]


class BadError(Exception):
    """What a compiler says that does not work here."""


def at_once(graph: Any, example: Any) -> Any:
    raise BadError("no compiler\nand a long text")


def in_backward(graph: Any, example: Any) -> Any:
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    compiler = aot_autograd(
        fw_compiler=lambda graph, _: make_boxed_func(graph.forward), bw_compiler=at_once
    )
    return compiler(graph, example)


def not_at_all(function: Any, options: Any = None) -> Any:
    raise RuntimeError("not for this Python")


@pytest.mark.parametrize(
    ("which", "why"),
    [(at_once, "no compiler"), (in_backward, "no compiler"), (None, "not for this Python")],
    ids=["when called", "in the backward pass", "at all"],
)
def test_where_compiling_fails_one_line_says_so_and_nothing_else_differs(
    which: Any, why: str, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only the backward pass fails: the trial of it leaves no trace, bit for bit."""
    wanted = fit(made())
    backend(which)
    if which is None:
        monkeypatch.setattr(torch, "compile", not_at_all)
    with pytest.warns(RuntimeWarning, match="compile=True") as told:
        found = fit(made(), compile=True)

    (line,) = [str(one.message) for one in told]
    assert line.startswith("compile=True: the model cannot be compiled here and runs as it is (")
    assert why in line
    assert line.endswith("\nfix: install a C++ compiler, or pass compile=False")
    assert line.count("\n") == 1
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_an_error_of_the_model_is_told_as_without_compiling(backend: Any) -> None:
    """Not the compiler's own error, and no line about the compiler."""
    backend("eager")
    trainer = Trainer(nn.Linear(3, 1), loss="mse", optimizer="sgd", device="cpu", compile=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        trainer.fit((X, Y), verbose=0)

    assert "raised in the forward pass of training" in str(raised.value.__notes__)
