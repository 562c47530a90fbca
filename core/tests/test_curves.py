"""The picture of a history."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hookloop import HookloopError
from hookloop.curves import draw

pytest.importorskip("matplotlib")

EPOCHS = [1, 2, 3]


def test_a_metric_and_its_validation_share_a_panel() -> None:
    """Panels in the order of the report; a name that exists only with ``val_`` has one too."""
    one = (EPOCHS, [3.0, 2.0, 1.0])
    figure = draw({"loss": one, "lr": one, "val_loss": one, "val_f1": one})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "lr", "f1"]
    assert [len(axes.get_legend_handles_labels()[1]) for axes in figure.axes] == [2, 1, 1]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("loss", [3.0, 1.0, 2.0], ["1 in epoch 2"]),
        ("accuracy", [0.5, 0.25, 0.75], ["0.75 in epoch 3"]),
        ("loss", [math.nan, 2.0, math.inf], ["2 in epoch 2"]),
        ("loss", [math.nan] * 3, []),
        ("oddity", [3.0, 1.0, 2.0], []),
    ],
    ids=["lowest-loss", "highest-accuracy", "nan-is-not-best", "all-nan", "no-direction"],
)
def test_the_best_validated_epoch_is_marked(
    name: str, values: list[float], words: list[str]
) -> None:
    """With its value and its epoch, where it is known which way is better."""
    figure = draw({name: (EPOCHS, [1.0, 1.0, 1.0]), f"val_{name}": (EPOCHS, values)})
    assert [text.get_text() for text in figure.axes[0].texts] == words


def test_a_loss_that_fell_far_has_a_logarithmic_axis() -> None:
    """So that its late epochs can be told apart; an accuracy keeps a linear one."""
    fell = (EPOCHS, [1.0, 0.1, 0.01])
    figure = draw({"loss": fell, "accuracy": fell})
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]


def test_what_holds_no_numbers_is_left_out() -> None:
    """A callback may log words or lists; they have no curve."""
    figure = draw({"note": (EPOCHS, ["a", "b", "c"]), "loss": (EPOCHS, [1.0, 2.0, 3.0])})  # type: ignore[dict-item]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]


def test_an_empty_history_still_gives_a_picture(tmp_path: Path) -> None:
    """One that says so."""
    figure = draw({}, tmp_path / "curves.png")
    assert figure.texts[0].get_text() == "no epoch was recorded"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".SVG", b"<?xml"), (".pdf", b"%PDF")]
)
def test_the_suffix_decides_the_format(tmp_path: Path, suffix: str, start: bytes) -> None:
    """Folders are made, and nothing but the picture is left."""
    path = tmp_path / "new" / f"curves{suffix}"
    draw({"loss": (EPOCHS, [3.0, 2.0, 1.0])}, path)
    assert path.read_bytes().startswith(start)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["curves", "curves.docx"])
def test_a_suffix_of_no_format_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(HookloopError, match=r"fix: end it in \.png"):
        draw({"loss": (EPOCHS, [3.0, 2.0, 1.0])}, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
