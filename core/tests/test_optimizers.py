"""Optimizers by name and otherwise, and whose parameters they change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hookloop import Callback, Trainer
from hookloop.errors import ArgumentError
from hookloop.optimizers import OPTIMIZERS, check_parameters, make_optimizer

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_of_the_table_can_be_made_by_name(name):
    """The name alone is enough, in any case; where torch has a fused one for it, it is that."""
    made = make_optimizer(name.upper(), nn.Linear(2, 2))
    assert type(made) is OPTIMIZERS[name]
    fused = name in ("sgd", "adam", "adamw", "adagrad")
    assert bool(made.defaults.get("fused")) is fused


def test_settings_of_an_optimizer_are_read_from_its_name():
    """Numbers, words and brackets as for callbacks; fused=false is respected."""
    made = make_optimizer("adam:lr=0.5,betas=(0.5, 0.9),amsgrad=true,fused=false", nn.Linear(2, 2))
    assert (made.defaults["lr"], made.defaults["betas"]) == (0.5, (0.5, 0.9))
    assert made.defaults["amsgrad"] is True
    assert not made.defaults["fused"]


def test_an_optimizer_may_be_an_instance_a_class_or_any_callable_of_the_parameters():
    """An instance is used as it is; what is callable is called with the model's parameters."""
    model = nn.Linear(2, 2)
    instance = torch.optim.SGD(model.parameters(), lr=1.0)
    assert make_optimizer(instance, model) is instance
    assert type(make_optimizer(torch.optim.Adam, model)) is torch.optim.Adam
    made = make_optimizer(lambda parameters: torch.optim.SGD(parameters, lr=0.25), model)
    assert made.defaults["lr"] == 0.25


def test_parameters_of_another_model_are_noticed():
    """A single foreign parameter in any group is enough; without one nothing is said."""
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    mixed = torch.optim.SGD([{"params": model.parameters()}, {"params": [other.bias]}], lr=0.1)
    with pytest.warns(UserWarning, match="parameters that are not the model's"):
        check_parameters(mixed, model)
    check_parameters(torch.optim.SGD(model.parameters(), lr=0.1), model)


def test_the_parameters_of_a_loss_are_not_foreign():
    """A loss that is a module may be trained along, or alone on a model that is frozen."""
    model, loss = nn.Linear(2, 2), nn.Linear(2, 2)
    check_parameters(torch.optim.SGD([*model.parameters(), *loss.parameters()]), model, loss)
    check_parameters(torch.optim.SGD(loss.parameters()), model, loss)


def test_an_optimizer_of_another_model_alone_is_refused():
    """The run would go on for hours and change nothing."""
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ArgumentError) as refused:
        check_parameters(other, nn.Linear(2, 2))
    assert str(refused.value) == (
        "The optimizer has none of the model's parameters: it would not be trained.\n"
        "fix: make it from model.parameters() of the model that is trained"
    )


class Hidden(nn.Module):
    """Keeps its layers where torch does not look."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 2)]


SETTINGS = (
    "lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, fused"
)
REFUSED = {
    "setting of Keras": (
        "sgd:learning_rate=0.1",
        "sgd has no setting 'learning_rate'. Keras's 'learning_rate' is 'lr' here.\n"
        f"fix: its settings are: {SETTINGS}",
    ),
    "near miss": (
        "sgd:momentun=0.9",
        "sgd has no setting 'momentun'. Did you mean 'momentum'?\n"
        f"fix: its settings are: {SETTINGS}",
    ),
    "setting of nobody": (
        "sgd:xyz=1",
        f"sgd has no setting 'xyz'.\nfix: its settings are: {SETTINGS}",
    ),
    "text for a number": (
        "sgd:lr=fast",
        "sgd: lr='fast' is a str, not float | torch.Tensor.\nfix: pass lr as float | torch.Tensor",
    ),
    "number for a pair": (
        "adam:betas=0.9",
        "adam: betas=0.9 is a float, not tuple[float | torch.Tensor, float | torch.Tensor].\n"
        "fix: pass betas as tuple[float | torch.Tensor, float | torch.Tensor]",
    ),
    "number for a truth value": (
        "adam:amsgrad=1",
        "adam: amsgrad=1 is a int, not bool.\nfix: pass amsgrad as bool",
    ),
    "out of range": (
        "sgd:lr=-1",
        "The optimizer 'sgd:lr=-1' refused its settings: Invalid learning rate: -1.\n"
        "fix: see torch.optim.SGD",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_that_makes_no_sense_is_named(case):
    """Not torch's own TypeError about an operator."""
    chosen, text = REFUSED[case]
    with pytest.raises(ArgumentError) as refused:
        make_optimizer(chosen, nn.Linear(2, 2))
    assert str(refused.value) == text


@pytest.mark.parametrize("chosen", ["adam", torch.optim.Adam], ids=["name", "class"])
def test_a_model_without_parameters_is_refused(chosen):
    """Most often its layers are in a plain list."""
    with pytest.raises(ArgumentError) as refused:
        make_optimizer(chosen, Hidden())
    assert str(refused.value) == (
        "The model Hidden has no parameters, so nothing can be trained.\n"
        "fix: make its layers attributes of the module; a list of them is an nn.ModuleList"
    )


class Complex(nn.Module):
    """Has a weight for which no fused implementation works."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    def forward(self, x):
        return (self.weight * x).abs().sum(1)


def sparse():
    """Its gradients are sparse: of torch's, SGD and Adagrad take such."""
    return nn.Sequential(nn.Embedding(4, 1, sparse=True), nn.Flatten(0))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("name", "model", "x"),
    [
        *((name, Complex, torch.ones(4, 2)) for name in ("sgd", "adam", "adamw", "adagrad")),
        *((name, sparse, torch.arange(4)) for name in ("sgd", "adagrad")),
    ],
)
def test_what_cannot_be_fused_is_trained_without(name, model, x):
    """Torch says so at the first step only, when the run has begun."""
    trainer = Trainer(model(), loss="mse", optimizer=name, device="cpu")
    assert not trainer.optimizer.defaults.get("fused")
    assert trainer.fit((x, torch.zeros(4)), verbose=0).epoch == [0]


@pytest.mark.parametrize("name", ["sgd:momentum=0.9", "adam", "adamw", "adagrad"])
def test_the_fused_implementation_trains_to_the_same_weights(name):
    """Within 1e-6 after ten steps: the tolerance that docs/trainer.md states."""
    weights = []
    for fused in ("true", "false"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        x = torch.randn(80, 4)
        chosen = f"{name}{',' if ':' in name else ':'}fused={fused}"
        trainer = Trainer(model, loss="mse", optimizer=chosen, device="cpu", seed=0)
        assert trainer.optimizer.defaults["fused"] is (fused == "true")
        trainer.fit((x, x[:, :1]), batch_size=8, verbose=0)
        weights.append([*model.state_dict().values()])
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("then", ["adam", "adam:fused=false"], ids=["fused", "plain"])
@pytest.mark.parametrize("now", ["adam", "adam:fused=false"], ids=["fused now", "plain now"])
def test_a_resumed_run_goes_on_with_the_implementation_it_had(then, now, tmp_path):
    """So that it ends bit for bit where the run would have ended, whichever the name picks now."""

    def fit(chosen, epochs, **options):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        trainer = Trainer(model, loss="mse", optimizer=chosen, device="cpu", seed=0)
        trainer.fit((X, X[:, :1]), batch_size=8, epochs=epochs, verbose=0, **options)
        return model.weight

    saver = {"model_checkpoint": {"filepath": tmp_path / "{epoch}.pt"}}
    whole = fit(then, 4)
    fit(then, 2, callbacks=[saver])
    assert torch.equal(fit(now, 4, resume=tmp_path / "2.pt"), whole)


def test_nothing_that_changes_numbers_is_switched_on_by_itself():
    """No lower precision, no other layout: docs/trainer.md says how to ask for those."""
    before = (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 1))
    trainer = Trainer(model, loss="mse", optimizer="adam", device="cpu")
    seen = []
    model[0].register_forward_hook(lambda *args: seen.append(args[2]))
    trainer.fit((torch.ones(2, 3, 2, 2), torch.ones(2, 1)), verbose=0)

    after = (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)
    assert after == before
    assert {one.dtype for one in (*seen, *model.parameters())} == {torch.float32}
    assert model[0].weight.is_contiguous()
    assert seen[0].is_contiguous()


def test_a_layout_that_was_asked_for_stays():
    """The model's own: convolutions take what comes to it, and give their own."""
    model = nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 1))
    model.to(memory_format=torch.channels_last)
    Trainer(model, loss="mse", optimizer="adam", device="cpu").fit(
        (torch.ones(2, 3, 3, 3), torch.ones(2, 1)), verbose=0
    )
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_gradients_are_freed_before_each_step():
    """Not set to zero: ``zero_grad(set_to_none=True)``."""
    model = nn.Linear(4, 1)
    seen = []

    class Looks(Callback):
        def on_train_batch_end(self):
            self.model.register_forward_pre_hook(
                lambda *_: seen.append([p.grad for p in model.parameters()])
            )

    Trainer(model, loss="mse", optimizer="adam", device="cpu").fit(
        (X[:16], X[:16, :1]), batch_size=8, callbacks=[Looks()], verbose=0
    )
    assert seen == [[None, None]]
