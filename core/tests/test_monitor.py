"""Monitor: which way is better, what counts as an improvement, and what is said when it is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hookloop.errors import ArgumentError, MonitorError
from hookloop.logs import Logs
from hookloop.monitor import DIRECTIONS, Monitor, direction_of

NAMES = [
    ("loss", "min"),
    ("val_loss", "min"),
    ("val_a_loss", "min"),
    ("dice_loss", "min"),
    ("mean_squared_error", "min"),
    ("val_mae", "min"),
    ("out_rmse", "min"),
    ("perplexity", "min"),
    ("cross_entropy", "min"),
    ("val_cross_entropy", "min"),
    ("val_head_log_cosh", "min"),
    ("val_sparse_categorical_crossentropy", "min"),
    ("accuracy", "max"),
    ("val_acc", "max"),
    ("top5_acc", "max"),
    ("val_top_5_accuracy", "max"),
    ("BinaryAccuracy", "max"),
    ("val_auc", "max"),
    ("AUC", "max"),
    ("f1", "max"),
    ("macro_f1_score", "max"),
    ("val_f_measure", "max"),
    ("fmeasure", "max"),
    ("precision", "max"),
    ("head_recall", "max"),
    ("r2", "max"),
    ("val_r2_score", "max"),
    ("bleu", "max"),
    ("val-bleu", "max"),
    ("lr", None),
    ("temperature", None),
    ("lossy", None),
    ("accident", None),
    ("val_", None),
    ("", None),
]


@pytest.mark.parametrize(("name", "direction"), NAMES, ids=[repr(name) for name, _ in NAMES])
def test_direction_of_a_name(name: str, direction: str | None) -> None:
    """Names are understood with ``val_`` and an output in front; nothing else is guessed."""
    assert direction_of(name) == direction


@pytest.mark.parametrize("word", DIRECTIONS)
def test_every_word_of_the_table_is_understood_behind_any_prefix(word: str) -> None:
    """The table holds for the bare word, for validation and for an output."""
    found = {direction_of(f"{before}{word}") for before in ("", "val_", "val_head_")}
    assert found == {DIRECTIONS[word]}


class Metric:
    def __init__(self, higher: bool | None) -> None:
        self.higher_is_better = higher


@pytest.mark.parametrize(
    ("higher", "direction"), [(True, "max"), (False, "min"), (None, "min")], ids=str
)
def test_the_metric_s_own_direction_comes_before_its_name(
    higher: bool | None, direction: str
) -> None:
    """An object that says ``higher_is_better`` knows best; None leaves it to the name."""
    monitor = Monitor("val_error")
    monitor.start({"error": Metric(higher)})
    assert monitor.direction == direction


def test_no_direction_is_an_error_when_the_run_starts() -> None:
    """The error says which two words to write."""
    monitor = Monitor("temperature", who="early_stopping")
    with pytest.raises(MonitorError) as caught:
        monitor.start({})
    assert str(caught.value) == (
        "early_stopping: cannot tell from its name whether a lower or a higher 'temperature' is "
        "better.\nfix: write mode='min' or mode='max'"
    )


def test_mode_settles_what_a_name_cannot() -> None:
    """With a mode, any name can be monitored."""
    monitor = Monitor("temperature", mode="max")
    monitor.start({})
    assert [monitor.improved(v) for v in (1.0, 2.0, 1.5)] == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"mode": "down"},
            "x: mode='down' is no direction.\nfix: mode='min', mode='max' or mode='auto'",
        ),
        ({"min_delta": math.nan}, "x: min_delta is not a number.\nfix: min_delta=0.0"),
    ],
    ids=["mode", "min_delta"],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], text: str) -> None:
    """At once, when the monitor is made."""
    with pytest.raises(ArgumentError) as caught:
        Monitor(who="x", **settings)
    assert str(caught.value) == text


NAN, INF = math.nan, math.inf
SERIES = [
    # mode, min_delta, values, which of them improve
    ("min", 0.0, [3, 2, 2, 1], "yyny"),
    ("max", 0.0, [1, 2, 2, 3], "yyny"),
    ("min", 0.0, [-1.0, -2.0, -1.5, -3.0], "yyny"),
    ("max", 0.0, [-3.0, -2.0, -2.5, -1.0], "yyny"),
    ("max", 0.0, [-3.0, 0.0, 0.5], "yyy"),
    ("min", 0.5, [3.0, 2.6, 2.5, 2.4], "ynny"),
    ("min", -0.5, [3.0, 2.6, 2.5, 2.4], "ynny"),
    ("max", 0.5, [1.0, 1.5, 1.6], "yny"),
    ("max", -0.5, [1.0, 1.5, 1.6], "yny"),
    ("min", 0.0, [NAN, 2.0, NAN, 1.0], "nyny"),
    ("max", 0.0, [NAN, 2.0, NAN, 3.0], "nyny"),
    ("min", 0.0, [INF, 1.0, -INF, -INF], "nyyn"),
    ("max", 0.0, [-INF, 1.0, INF, INF], "nyyn"),
    ("min", 0.0, [0.0, -0.0], "yn"),
]


@pytest.mark.parametrize(
    ("mode", "delta", "values", "improves"), SERIES, ids=[f"{s[0]} {s[1]} {s[2]}" for s in SERIES]
)
def test_what_counts_as_an_improvement(
    mode: str, delta: float, values: list[float], improves: str
) -> None:
    """Strictly better by more than ``min_delta``, whatever its sign; NaN never."""
    monitor = Monitor("x", mode=mode, min_delta=delta)
    monitor.start()
    assert "".join("ny"[monitor.improved(float(v))] for v in values) == improves


@pytest.mark.reliability("G5")
def test_nan_never_becomes_the_best() -> None:
    """After a NaN the next number is compared with the last number."""
    monitor = Monitor("loss")
    monitor.start()
    for value in (NAN, 2.0, NAN):
        monitor.improved(value)
    assert monitor.best == 2.0


def test_a_first_best_has_to_be_beaten() -> None:
    """``best`` given from the start counts, and comes back with each run."""
    monitor = Monitor("loss", best=1.0)
    monitor.start()
    assert [monitor.improved(1.5), monitor.improved(0.5)] == [False, True]
    monitor.start()
    assert monitor.best == 1.0


@pytest.mark.parametrize(
    "logged", [0.25, torch.tensor(0.25), np.float32(0.25)], ids=["float", "tensor", "numpy"]
)
def test_the_value_is_a_float(logged: Any) -> None:
    """States and comparisons meet Python floats only."""
    value = Monitor("loss").value(Logs({"loss": logged}))
    assert (value, type(value)) == (0.25, float)


MISSING = [
    (
        "val_loss",
        {"loss": 1.0, "accuracy": 0.5},
        "who: 'val_loss' was not reported at the end of this epoch, which does not count; "
        "reported: loss, accuracy.\nfix: pass validation_data=, or monitor one of these",
    ),
    (
        "val_acc",
        {"loss": 1.0, "val_loss": 1.0},
        "who: 'val_acc' was not reported at the end of this epoch, which does not count; "
        "reported: loss, val_loss.\nfix: report it, or monitor one of these",
    ),
    (
        "acc",
        {"loss": 1.0},
        "who: 'acc' was not reported at the end of this epoch, which does not count; "
        "reported: loss.\nfix: report it, or monitor one of these",
    ),
    (
        "loss",
        {"loss": torch.zeros(2)},
        "who: 'loss' is a Tensor, not a single number, at the end of this epoch, which does not "
        "count; reported: loss.\nfix: report a number, or monitor another one",
    ),
    (
        "loss",
        {},
        "who: 'loss' was not reported at the end of this epoch, which does not count; "
        "reported: none.\nfix: report it",
    ),
]


@pytest.mark.parametrize(
    ("name", "logs", "text"),
    MISSING,
    ids=["validation", "more of it", "other", "no number", "nothing"],
)
@pytest.mark.reliability("G1")
def test_a_missing_metric_is_one_warning_with_what_was_reported(
    name: str, logs: dict[str, Any], text: str
) -> None:
    """Said once, not every epoch; and the epoch gives no value."""
    monitor = Monitor(name, who="who")
    monitor.start(how_to_validate="pass validation_data=")
    with pytest.warns(UserWarning, match="who: ") as caught:
        assert monitor.value(Logs(logs)) is None
    assert [str(warning.message) for warning in caught] == [text]
    assert monitor.value(Logs(logs)) is None


@pytest.mark.reliability("G1")
def test_a_metric_that_never_came_is_said_again_at_the_end() -> None:
    """So that it is not lost far up in the output of a long run."""
    monitor = Monitor("val_loss", who="who")
    monitor.start()
    with pytest.warns(UserWarning, match="was not reported"):
        monitor.value(Logs({"loss": 1.0}))
    with pytest.warns(UserWarning, match="who: ") as caught:
        monitor.finish()
    assert [str(warning.message) for warning in caught] == [
        "who: 'val_loss' was never reported in this run, so it decided nothing."
        "\nfix: monitor a quantity that is reported"
    ]


def test_a_metric_that_came_late_is_not_said_again() -> None:
    """Validation every other epoch is no mistake."""
    monitor = Monitor("val_loss")
    monitor.start()
    with pytest.warns(UserWarning, match="was not reported"):
        monitor.value(Logs({"loss": 1.0}))
    assert monitor.value(Logs({"val_loss": 1.0})) == 1.0
    monitor.finish()


def test_saved_state_goes_on_where_it_was() -> None:
    """The best value survives a restart; a new run alone begins afresh."""
    monitor, other = Monitor("loss"), Monitor("loss")
    monitor.start()
    monitor.improved(0.5)
    other.start()
    other.load_state_dict(monitor.state_dict())
    assert [other.best, other.improved(0.6), other.improved(0.4)] == [0.5, False, True]
    other.start()
    assert other.best is None


@pytest.mark.parametrize("best", ["x", [], {}, torch.zeros(5)], ids=repr)
def test_a_best_value_that_is_no_number_is_refused(best: Any) -> None:
    """When it is put back, and not at the end of the next epoch."""
    monitor = Monitor("val_loss", who="test")

    with pytest.raises((TypeError, ValueError, RuntimeError)):
        monitor.load_state_dict({"best": best, "seen": True})

    assert monitor.best is None


@pytest.mark.reliability("G1")
def test_a_name_that_nothing_reports_is_said_before_the_first_epoch() -> None:
    """With what is near and what is known; once, and not again at the first epoch."""
    monitor = Monitor("val_acc", who="who")
    with pytest.warns(UserWarning, match="who") as caught:
        monitor.start(reported=["loss", "accuracy", "val_loss", "val_accuracy"])
    monitor.value(Logs({"loss": 1.0}))
    assert [str(warning.message) for warning in caught] == [
        "who: Nothing is known to report 'val_acc'. Did you mean 'val_accuracy'? Known: loss, "
        "accuracy, val_loss, val_accuracy.\nfix: report it, or monitor one of these, "
        "unless a callback logs it"
    ]


@pytest.mark.reliability("G1")
def test_a_misspelt_name_is_suggested_before_a_mode_is_asked_for() -> None:
    """Who obeyed "write mode=" alone would get a run that never stops."""
    monitor = Monitor("val_acuracy", who="who")
    with pytest.raises(MonitorError) as refused:
        monitor.start(reported=["loss", "val_loss", "val_accuracy"])
    assert str(refused.value) == (
        "who: cannot tell from its name whether a lower or a higher 'val_acuracy' is better. "
        "Nothing is known to report 'val_acuracy'. Did you mean 'val_accuracy'? Known: loss, "
        "val_loss, val_accuracy.\nfix: write mode='min' or mode='max'"
    )


def test_a_warning_points_to_the_line_of_the_user() -> None:
    """Not to one inside of hookloop."""
    with pytest.warns(UserWarning, match="who") as caught:
        Monitor("val_loss", who="who").start(reported=["loss"])
    assert caught[0].filename == __file__
