"""The averages themselves, beside a formula."""

from __future__ import annotations

import copy

import pytest
import torch
from hookloop_swap_ema_weights._averages import Averages


def weights(value: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(2, 1)
    for parameter in layer.parameters():
        torch.nn.init.constant_(parameter, value)
    return layer


def fill(model: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_the_first_average_is_the_weights_and_the_next_move_towards_them() -> None:
    """0.75 of the old and 0.25 of the new, as with Keras's ema_momentum=0.75."""
    model = weights(8.0)
    averages = Averages(model, decay=0.75, use_buffers=True)
    found = []
    for value in (8.0, 4.0, 0.0):
        fill(model, value)
        averages.update()
        found.append(averages.tensors()["bias"].item())

    assert found == [8.0, 7.0, 5.25]
    assert averages.count == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exchanging_twice_changes_no_bit(dtype: torch.dtype) -> None:
    """Weights and averages come back as they were, in any precision."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).to(dtype)
    averages = Averages(model, decay=0.9, use_buffers=True)
    averages.update()
    fill(model, 0.3)
    averages.update()
    own = copy.deepcopy(model.state_dict())
    average = copy.deepcopy(averages.tensors())

    averages.exchange()
    assert all(torch.equal(model.state_dict()[key], average[key]) for key in own)
    assert all(torch.equal(averages.tensors()[key], own[key]) for key in own)
    averages.exchange()

    assert all(torch.equal(model.state_dict()[key], own[key]) for key in own)
    assert all(torch.equal(averages.tensors()[key], average[key]) for key in own)


def test_memory_of_the_weights_stays_where_it_is() -> None:
    """Views of the weights, such as an optimizer's, see the averages too."""
    model = weights(1.0)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    averages = Averages(model, decay=0.5, use_buffers=True)
    averages.exchange()

    assert [parameter.data_ptr() for parameter in model.parameters()] == places


@pytest.mark.parametrize(
    ("use_buffers", "names"),
    [
        (True, ["weight", "bias", "running_mean", "running_var"]),
        (False, ["weight", "bias"]),
    ],
    ids=["with-buffers", "without"],
)
def test_statistics_are_averaged_and_counters_are_not(use_buffers: bool, names: list[str]) -> None:
    """num_batches_tracked is a count: a mean of it would mean nothing."""
    model = torch.nn.BatchNorm1d(2)
    averages = Averages(model, decay=0.5, use_buffers=use_buffers)
    averages.update()
    model(torch.randn(4, 2))
    averages.update()
    averages.exchange()

    assert list(averages.tensors()) == names
    assert model.num_batches_tracked.item() == 1


def test_a_buffer_that_is_replaced_is_followed() -> None:
    """`self.seen = ...` in a forward puts a new tensor in the place of the old one."""

    class Replacing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

    model = Replacing()
    averages = Averages(model, decay=0.5, use_buffers=True)
    averages.update()
    model.seen = torch.full((1,), 4.0)
    averages.update()
    averages.exchange()

    assert model.seen.item() == 2.0


def test_tied_weights_are_averaged_once() -> None:
    """A weight with two names would move twice as fast."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    averages = Averages(model, decay=0.5, use_buffers=True)

    assert list(averages.tensors()) == ["0.weight", "0.bias", "1.bias"]


def test_what_hangs_on_a_model_is_not_copied() -> None:
    """Hooks may lead to things that cannot be copied, such as locks and open files."""
    import threading

    lock = threading.Lock()

    class Hook:
        def __init__(self) -> None:
            self.lock = lock

        def __call__(self, *_: object) -> None:
            """See the outputs of the layer."""

    model = weights(1.0)
    model.register_forward_hook(Hook())
    averages = Averages(model, decay=0.5, use_buffers=True)
    averages.update()

    assert averages.count == 1
