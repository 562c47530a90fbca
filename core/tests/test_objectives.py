"""Losses, metrics and optimizers, by name and otherwise."""

from __future__ import annotations

import pytest
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F

from hookloop import Logs
from hookloop.objectives import LOSSES, METRICS, Objective, accuracy, top5_accuracy

SCORES = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
CLASSES = torch.tensor([0, 1])
P, Q = torch.tensor([[0.25], [0.75]]), torch.tensor([[0.0], [1.0]])


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "expected"),
    [
        ("cross_entropy", SCORES, CLASSES, 0.907606),
        ("nll", SCORES.log_softmax(1), CLASSES, 0.907606),
        ("binary_cross_entropy", P, Q, 0.287682),
        ("bce", P, Q, 0.287682),
        ("binary_cross_entropy_with_logits", P, Q, 0.606405),
        ("bce_with_logits", P, Q, 0.606405),
        ("mse", P, Q, 0.0625),
        ("mean_squared_error", P, Q, 0.0625),
        ("mae", P, Q, 0.25),
        ("mean_absolute_error", P, Q, 0.25),
        ("l1", P, Q, 0.25),
        ("smooth_l1", P, Q, 0.03125),
        ("huber", P, Q, 0.03125),
        ("kl_div", SCORES.log_softmax(1), torch.full((2, 3), 1 / 3), 0.308994),
    ],
)
def test_a_loss_by_name_is_the_textbooks(name, outputs, targets, expected):
    """Each name of the table, against a number worked out without torch's losses."""
    assert Objective(name).loss(outputs, targets, {}).item() == pytest.approx(expected, abs=1e-5)


def test_the_table_of_losses_is_closed_and_tested():
    """A name that is added has to come with a number above."""
    assert len(LOSSES) == 14


@pytest.mark.parametrize(
    ("outputs", "targets", "expected"),
    [
        pytest.param(SCORES, CLASSES, 0.5, id="classes"),
        pytest.param(SCORES, F.one_hot(CLASSES, 3), 0.5, id="one-hot"),
        pytest.param(torch.tensor([-1.0, 2.0, 3.0]), torch.tensor([0, 1, 0]), 2 / 3, id="logits"),
        pytest.param(torch.tensor([[-1.0], [2.0]]), torch.tensor([[0.0], [1.0]]), 1.0, id="column"),
        pytest.param(
            torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0, 0]]), 0.5, id="pixels"
        ),
    ],
)
def test_accuracy_is_the_share_of_right_answers(outputs, targets, expected):
    """For classes, one-hot rows, logits of yes or no, and every pixel of a picture."""
    assert accuracy(outputs, targets).item() == pytest.approx(expected)


def test_top5_accuracy_looks_at_the_five_highest_scores():
    """Of six classes the lowest is out; with fewer than five classes every answer is in."""
    scores = torch.arange(6.0).repeat(2, 1)
    assert top5_accuracy(scores, torch.tensor([0, 1])).item() == 0.5
    assert top5_accuracy(SCORES, CLASSES).item() == 1.0


class Named:
    name = "mine"

    def __call__(self, outputs, targets):
        return outputs.mean()


def ratio(outputs, targets):
    return outputs.mean()


@pytest.mark.parametrize(
    ("metrics", "keys"),
    [
        ("accuracy", ["accuracy"]),
        (["acc", "mae"], ["acc", "mae"]),
        ({"a": "accuracy", "b": ratio}, ["a", "b"]),
        ([ratio], ["ratio"]),
        ([Named()], ["mine"]),
        (torchmetrics.MeanMetric(), ["MeanMetric"]),
        (None, []),
    ],
    ids="name list mapping function attribute object none".split(),
)
def test_a_metrics_key_is_what_the_user_wrote(metrics, keys):
    """The string as given, the mapping's key, metric.name, or the function's name."""
    assert Objective("mse", metrics).names == ["loss", *keys]


def test_a_batch_gets_the_metrics_of_that_batch_and_an_epoch_the_objects_own_result():
    """A function is reported batch by batch; an object that accumulates only at the end."""
    metric = torchmetrics.classification.MulticlassAccuracy(3, average="micro")
    objective = Objective("cross_entropy", {"acc": "accuracy", "object": metric}).twin()
    seen = []
    for rows in (slice(0, 1), slice(1, 2)):
        logs = Logs()
        objective.measure(SCORES[rows], CLASSES[rows], logs)
        seen.append(dict(logs))
    assert seen == [{"acc": 1.0}, {"acc": 0.0}]
    assert objective.results() == {"object": torch.tensor(0.5)}
    assert metric._update_count == 0, "the user's own object is copied, not used"


def test_outputs_that_are_a_mapping_have_a_loss_each_and_their_sum():
    """The parts are reported as <output>_loss, the sum is what is minimised."""
    objective = Objective({"a": "mse", "b": nn.L1Loss()}, {"b": ["mae"], "a": "mse"})
    outputs, targets, logs = {"a": P, "b": P}, {"a": Q, "b": Q}, {}
    assert objective.names == ["loss", "a_loss", "b_loss", "b_mae", "a_mse"]
    assert objective.loss(outputs, targets, logs).item() == pytest.approx(0.0625 + 0.25)
    objective.measure(outputs, targets, logs)
    assert {key: value.item() for key, value in logs.items()} == {
        "a_loss": 0.0625,
        "b_loss": 0.25,
        "b_mae": 0.25,
        "a_mse": 0.0625,
    }


def test_the_metrics_by_name_are_these():
    """The table is closed, and the documents list it."""
    assert sorted(METRICS) == [
        "acc",
        "accuracy",
        "mae",
        "mean_absolute_error",
        "mean_squared_error",
        "mse",
        "top5_acc",
        "top5_accuracy",
    ]
