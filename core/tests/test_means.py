"""Means: sample-weighted means of what batches report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hookloop.logs import Logs
from hookloop.means import Means


def mean_of(*batches: dict[str, Any], latest: tuple[str, ...] = ()) -> dict[str, Any]:
    means = Means(latest)
    for batch in batches:
        means.add(Logs(batch))
    return {key: float(value) for key, value in means.result().items()}


@pytest.mark.parametrize(
    "kind",
    [float, torch.tensor, np.float64, np.float32, np.array],
    ids=["float", "tensor", "float64", "float32", "0-d array"],
)
def test_a_mean_weighs_by_size(kind: Any) -> None:
    """Three samples of 1 and one of 5 are 2 on average, whatever holds the numbers."""
    batches = {"size": 3, "loss": kind(1.0)}, {"size": 1, "loss": kind(5.0)}
    assert mean_of(*batches) == {"loss": 2.0}


def test_a_batch_without_size_counts_once() -> None:
    """Where the loop reports no size, batches weigh the same."""
    assert mean_of({"loss": 1.0}, {"loss": 2.0}) == {"loss": 1.5}


def test_a_key_counts_only_in_the_batches_that_report_it() -> None:
    """A quantity logged now and then is averaged over its own batches."""
    assert mean_of({"size": 2, "a": 1.0}, {"size": 2, "a": 3.0, "b": 7.0}) == {"a": 2.0, "b": 7.0}


def test_stateful_metrics_give_their_last_value() -> None:
    """What is accumulated by whoever reports it is not averaged again."""
    batches = {"size": 1, "auc": 0.1, "loss": 1.0}, {"size": 1, "auc": 0.7, "loss": 3.0}
    assert mean_of(*batches, latest=("auc",)) == {"auc": 0.7, "loss": 2.0}


def test_what_is_no_number_is_left_out() -> None:
    """Text, None, arrays and outputs have no mean; size is a weight."""
    batch = {"size": 2, "note": "x", "none": None, "outputs": torch.zeros(2), "loss": 1.0}
    assert mean_of(batch) == {"loss": 1.0}


def test_empty_batches_only_give_no_mean() -> None:
    """Nothing is divided by zero."""
    assert mean_of({"size": 0, "loss": 1.0}) == {}


def test_reading_in_between_does_not_change_the_last_bit() -> None:
    """A progress bar that looks at random batches must not change what is trained or logged."""
    values = [0.1 * k for k in range(1, 30)]

    def run(*, look: bool) -> float:
        means = Means()
        for number in values:
            logs = Logs({"size": 3, "loss": torch.tensor(number)})
            if look:
                assert logs["loss"]
            means.add(logs)
        return float(means.result()["loss"])

    assert run(look=True) == run(look=False)


def test_going_on_from_saved_sums_gives_the_same_bits() -> None:
    """Saving in the middle changes nothing, and neither does what came after it in the state."""
    values = [torch.tensor(0.1 * k) for k in range(1, 20)]
    whole, first, second = Means(), Means(), Means()
    for value in values:
        whole.add(Logs({"size": 3, "loss": value}))
    for value in values[:7]:
        first.add(Logs({"size": 3, "loss": value}))
    saved = first.state_dict()
    first.add(Logs({"size": 3, "loss": torch.tensor(100.0)}))
    second.load_state_dict(saved)
    for value in values[7:]:
        second.add(Logs({"size": 3, "loss": value}))
    assert second.result() == whole.result()


def test_a_whole_number_beyond_any_float_is_infinite() -> None:
    """It ends nobody's run."""
    means = Means()
    means.add(Logs({"size": 2, "big": 10**400, "small": -(10**400)}))
    assert means.result() == {"big": float("inf"), "small": float("-inf")}
