"""Learning rates: the ratios of the groups stay, and overwriting is said."""

from __future__ import annotations

import pytest
import torch

from hookloop import rates
from hookloop.errors import ArgumentError


def optimizer(*lrs: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in lrs]
    return torch.optim.SGD(groups)


@pytest.mark.parametrize(
    ("base", "value", "found"),
    [
        ([0.1], 0.05, [0.05]),
        ([0.1, 0.01], 0.05, [0.05, 0.005]),
        ([0.1, 0.0], 0.05, [0.05, 0.0]),
        ([0.0, 0.1], 0.05, [0.05, 0.05]),
        ([0.1, 0.2], 0.0, [0.0, 0.0]),
    ],
    ids=str,
)
def test_groups_keep_their_ratios_to_the_first(
    base: list[float], value: float, found: list[float]
) -> None:
    """Group i gets value x base_i / base_0; without a ratio, the value."""
    one = optimizer(*base)
    rates.set_rates([one], rates.bases([one]), value)
    assert rates.of(one) == pytest.approx(found)


def test_the_bases_are_those_of_the_start_however_often_a_rate_is_set() -> None:
    """Also after it was 0 for a while."""
    one = optimizer(0.1, 0.01)
    base = rates.bases([one])
    for value in (0.5, 0.0, 1.0):
        rates.set_rates([one], base, value)
    assert rates.of(one) == pytest.approx([1.0, 0.1])


def test_one_of_several_optimizers_can_be_set_alone() -> None:
    """Its own first group then counts."""
    one, two = optimizer(0.1), optimizer(0.2, 0.4)
    base = rates.bases([one, two])
    rates.set_rates([one, two], base, 1.0, only=two)
    assert [rates.of(one), rates.of(two)] == [[0.1], [1.0, 2.0]]


def test_an_optimizer_of_another_run_is_refused() -> None:
    """Rather than doing nothing."""
    one = optimizer(0.1)
    with pytest.raises(ArgumentError, match=r"not one of this run.\nfix: pass one of"):
        rates.set_rates([one], rates.bases([one]), 1.0, only=optimizer(0.1))


def test_a_rate_that_is_a_tensor_is_changed_in_place() -> None:
    """As capturable and compiled optimizers need it."""
    rate = torch.tensor(0.1)
    one = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=rate, capturable=False)
    rates.set_rates([one], rates.bases([one]), 0.5)
    assert one.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5


def test_a_group_added_since_gets_the_value() -> None:
    """It has no base."""
    one = optimizer(0.1)
    base = rates.bases([one])
    one.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.7})
    rates.set_rates([one], base, 0.5)
    assert rates.of(one) == [0.5, 0.5]


class Wrapper:
    """As accelerate wraps an optimizer: the groups are the same."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    "kind",
    [
        lambda one: torch.optim.lr_scheduler.LambdaLR(one, lambda step: 1 / (1 + step)),
        lambda one: torch.optim.lr_scheduler.OneCycleLR(one, 0.1, total_steps=9),
    ],
    ids=["LambdaLR", "OneCycleLR"],
)
def test_a_scheduler_that_knows_a_wrapper_goes_on_from_what_was_set(kind: object) -> None:
    """Every later rate is that of the schedule, times what was changed; one step alone is made."""
    one, twin = optimizer(0.1), optimizer(0.1)
    schedulers = [kind(one), kind(twin)]
    schedulers[0].optimizer = Wrapper(one)
    before = rates.of(one)
    rates.set_rates([one], rates.bases([one]), before[0] / 4)
    assert rates.agree([schedulers[0]], [one], before)
    for _ in range(5):
        for each, scheduler in zip((one, twin), schedulers, strict=True):
            each.step()
            scheduler.step()
        assert rates.of(one)[0] == pytest.approx(rates.of(twin)[0] / 4)


def test_a_scheduler_that_is_made_later_begins_with_the_rate_that_was_set() -> None:
    """As in a run that is resumed: it takes the rate with which it begins from the group."""
    one = optimizer(0.4)
    first = torch.optim.lr_scheduler.LambdaLR(one, lambda epoch: 0.5**epoch)
    rates.set_rates([one], rates.bases([one]), 0.1)
    rates.agree([first], [one], [0.4])
    later = torch.optim.lr_scheduler.LambdaLR(one, lambda epoch: 0.5**epoch, last_epoch=1)
    assert later.base_lrs == pytest.approx([0.1])
    assert rates.of(one) == pytest.approx([0.1 * 0.5**2])
