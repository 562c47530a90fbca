"""What a frame looks like, as a line and as a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hookloop_progbar_logger._frame import Frame, duration, number, speed

RUNNING = Frame(
    "Epoch 3/10",
    done=9,
    total=45,
    seconds=0.5,
    left=3.2,
    rate=81.6,
    values={"loss": 0.12345, "accuracy": 0.9701},
)
FINISHED = Frame(
    "Epoch 3/10",
    done=45,
    total=45,
    seconds=1.04,
    rate=81.6,
    values={"loss": 0.12345, "accuracy": 0.9701, "val_loss": 0.2, "val_accuracy": 0.95},
    finished=True,
)
UNKNOWN = Frame("Epoch 1", done=9, seconds=0.5, rate=18.0)


def test_a_running_bar_tells_progress_time_left_rate_and_metrics() -> None:
    """Everything of interest is there in 80 columns."""
    assert RUNNING.picture(80).plain.splitlines() == [
        "Epoch 3/10 ━━━━━━──────────────────────── " + " 9/45 • 0:00:04 left • 82 batch/s",
        "  loss: 0.1235 • accuracy: 0.9701",
    ]


def test_a_finished_bar_shows_four_metrics_in_80_columns() -> None:
    """The usual set of a classifier is not elided in the usual terminal."""
    assert FINISHED.picture(80).plain.splitlines() == [
        "Epoch 3/10 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 45/45 • 1.0s • 82 batch/s",
        "  loss: 0.1235 • accuracy: 0.9701 • val_loss: 0.2000 • val_accuracy: 0.9500",
    ]


def test_a_running_bar_leaves_out_what_does_not_fit_and_never_cuts_in_the_middle() -> None:
    """A narrow terminal gets fewer metrics and details, whole ones; the losses go first."""
    values = {"accuracy": 0.9701, "val_accuracy": 0.95, "val_loss": 0.2, "loss": 0.12345}

    assert replace(RUNNING, values=values).picture(50).plain.splitlines() == [
        "Epoch 3/10 ━────  9/45 • 0:00:04 left",
        "  loss: 0.1235 • val_loss: 0.2000 • …",
    ]


@pytest.mark.parametrize(
    ("width", "metrics"),
    [
        (
            50,
            ["  loss: 0.1235 • accuracy: 0.9701", "  val_loss: 0.2000 • val_accuracy: 0.9500"],
        ),
        (
            40,
            [
                "  loss: 0.1235 • accuracy: 0.9701",
                "  val_loss: 0.2000",
                "  val_accuracy: 0.9500",
            ],
        ),
        (
            20,
            [
                "  loss: 0.1235",
                "  accuracy: 0.9701",
                "  val_loss: 0.2000",
                "  val_accu…: 0.9500",
            ],
        ),
    ],
    ids=str,
)
def test_a_finished_bar_shows_every_metric_in_as_many_lines_as_it_takes(
    width: int, metrics: list[str]
) -> None:
    """Those of validation come last, and are what a person looks for."""
    assert FINISHED.picture(width).plain.splitlines()[1:] == metrics


@pytest.mark.parametrize("width", [1, 5, 12, 20, 33, 40, 61, 80, 200])
@pytest.mark.parametrize("frame", [RUNNING, FINISHED, UNKNOWN], ids=["running", "end", "unknown"])
def test_no_line_reaches_the_last_column(frame: Frame, width: int) -> None:
    """Whatever the width, nothing wraps."""
    assert all(len(line) < max(width, 4) for line in frame.picture(width).plain.splitlines())


def test_wide_characters_count_as_two_columns() -> None:
    """A metric with a Japanese name is elided where its cells, not its letters, end."""
    frame = Frame("Epoch 1", values={"loss": 1.0, "精度": 1.0, "正解率": 1.0})

    assert frame.picture(34).plain.splitlines()[1] == "  loss: 1.0000 • 精度: 1.0000 • …"
    assert frame.picture(33).plain.splitlines()[1] == "  loss: 1.0000 • …"


def test_the_bar_keeps_its_length_while_counts_and_times_change() -> None:
    """Nothing dances: the bar starts and ends in the same columns in each frame."""
    frames = [
        Frame("Epoch 1/2", done=d, total=1000, left=left, rate=r)
        for d, left, r in [(0, None, None), (7, 4000.0, 0.2), (999, 0.1, 123.4)]
    ]

    lengths = {sum(c in "━─" for c in frame.picture(80).plain) for frame in frames}

    assert lengths == {29}


def test_without_a_total_a_piece_wanders_along_the_bar() -> None:
    """Of unknown length: it moves with time, and the count has no end."""
    later = Frame("Epoch 1", done=12, seconds=1.0, rate=12.0)

    assert UNKNOWN.picture(80).plain == (
        "Epoch 1 ─────━━━━━━━────────────────── 9/? • 0:00:00 • 18 batch/s"
    )
    assert later.picture(80).plain == (
        "Epoch 1 ──────────━━━━━━━───────────── 12/? • 0:00:01 • 12 batch/s"
    )


def test_a_screen_of_ascii_gets_ascii() -> None:
    """Where the encoding has no lines and dots, there are others."""
    assert RUNNING.picture(80, ascii_only=True).plain.isascii()


def test_names_are_not_markup_and_stay_in_their_line() -> None:
    """Brackets are brackets; a line end in a name is a space."""
    frame = Frame("Epoch 1", values={"[red]f1[/red]": 0.5, "a\nb": 1.0, "x: y": 2})

    assert frame.picture(80).plain.splitlines()[1] == (
        "  [red]f1[/red]: 0.5000 • a b: 1.0000 • x: y: 2"
    )
    assert frame.line().splitlines() == [
        "Epoch 1 - 0:00:00 - [red]f1[/red]: 0.5000 - a b: 1.0000 - x: y: 2"
    ]


def test_the_plain_line_holds_everything() -> None:
    """A file has no width: no metric is left out."""
    assert FINISHED.line() == (
        "Epoch 3/10 - 45/45 - 1.0s - 82 batch/s"
        " - loss: 0.1235 - accuracy: 0.9701 - val_loss: 0.2000 - val_accuracy: 0.9500"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5000"),
        (0.0, "0.0000"),
        (-2.25, "-2.2500"),
        (0.01, "0.0100"),
        (0.005, "0.005"),
        (0.001, "0.001"),
        (0.0005, "0.0005"),
        (0.00987654, "0.009877"),
        (-0.00012345, "-0.0001234"),
        (1e-5, "1e-05"),
        (12345678.0, "1.2346e+07"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (7, "7"),
    ],
)
def test_numbers_have_four_decimals_or_four_digits(value: float, text: str) -> None:
    """So a small learning rate is written like a larger one, and loses nothing."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (61.6, "0:01:02"), (36125, "10:02:05")]
)
def test_durations_are_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    """A day is 24 hours, so that it stays one number."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(812.4, "812 batch/s"), (3.14, "3.1 batch/s"), (0.4, "2.5 s/batch")]
)
def test_slow_rates_are_told_as_the_time_of_one(rate: float, text: str) -> None:
    """0.4 batches a second is 2.5 seconds a batch."""
    assert speed(rate, "batch") == text
