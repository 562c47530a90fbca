"""Which metrics are new and how they are called, decided without Lightning."""

from __future__ import annotations

import pytest
from hookloop_in_lightning._metrics import Fresh, is_number, of_epoch, of_test
from torch import tensor


def test_what_is_the_same_object_is_old_and_what_is_equal_is_new() -> None:
    """A metric that was reported again is new also if it has not changed."""
    old, fresh = tensor(1.0), Fresh()
    fresh.mark({"kept": old, "again": old})

    again = tensor(1.0)

    assert fresh.since({"kept": old, "again": again}) == {"again": again}


def test_the_twins_that_lightning_makes_are_left_out() -> None:
    """x_step and x_epoch beside x; names of the user's own that look alike stay."""
    mean, step, other = tensor(1.0), tensor(2.0), tensor(3.0)
    metrics = {"x": mean, "x_epoch": mean, "x_step": step, "time": other, "time_step": step}

    assert list(Fresh().since(metrics)) == ["x", "time", "time_step"]


@pytest.mark.parametrize(
    ("logged", "key"),
    [
        (["val_loss"], ["loss"]),
        (["val_loss", "loss"], ["val_loss", "loss"]),
        (["valid_loss", "avg"], ["valid_loss", "avg"]),
    ],
)
def test_a_test_knows_its_metrics_without_prefix(logged: list[str], key: list[str]) -> None:
    """Unless two of them would be one."""
    assert list(of_test(dict.fromkeys(logged), "val_").values()) == key


@pytest.mark.parametrize(
    ("logged", "name"),
    [
        ("val_loss", "val_loss"),
        ("val/loss", "val/loss"),
        ("loss/val", "loss/val"),
        ("avg_val_loss", "avg_val_loss"),
        ("validation_acc", "validation_acc"),
        ("acc", "val_acc"),
        ("interval", "val_interval"),
        ("value", "val_value"),
    ],
)
def test_an_epoch_says_what_is_of_validation(logged: str, name: str) -> None:
    """val_ stands before a name that does not say so itself."""
    assert of_epoch(logged) == name


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, True),
        (0.5, True),
        (tensor(1.0), True),
        (True, False),
        (tensor([1.0]), False),
        ("", False),
    ],
)
def test_numbers_are_logged_and_nothing_else(value: object, number: bool) -> None:
    """Of what a step returns, tensors with samples are no logs."""
    assert is_number(value) is number
