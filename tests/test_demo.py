"""The demo: what a newcomer sees, and what is left on disk."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from hookloop.cli import main


class Shown(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


COMMAND = [sys.executable, "-m", "hookloop.cli", "demo"]


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Shown]]:
    """Give a function that runs the demo in this process, which has imported torch already."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(*words: str) -> Shown:
        status = main(["demo", *words])
        return Shown(status, *capsys.readouterr())

    yield run
    torch.set_num_threads(threads)


def paragraph(shown: str, heading: str) -> list[str]:
    """Give the lines below a heading, up to the next empty one."""
    return shown.partition(f"{heading}\n")[2].partition("\n\n")[0].splitlines()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two epochs into a fresh folder, and what they showed."""
    folder = tmp_path_factory.mktemp("short")
    done = demo(folder, "--epochs", "2", "--callback", "early_stopping:patience=5")
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_the_demo_learns_and_its_checkpoint_loads_as_it_says(tmp_path: Path) -> None:
    """At least 97 % with the fixed seed; the three printed lines give the same model."""
    done = demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(r"recognizes (\d+) of (\d+) validation images", done.stdout)
    assert found is not None
    right, count = map(int, found.groups())
    assert right / count >= 0.97
    measure = """
        images, digits = hookloop.demo.load_digits()[1]
        print(int((model(images).argmax(1) == digits).sum()), len(digits))
    """
    lines = paragraph(done.stdout, "To load the model again, in Python:")
    code = "\n".join([*map(str.strip, lines), textwrap.dedent(measure)])
    again = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert len(lines) == 3
    assert again.stdout.split() == [str(right), str(count)]


def test_the_demo_shows_the_callbacks_in_force(short: tuple[Path, str]) -> None:
    """Each by name, with its distribution and the settings that were chosen."""
    lines = [line.split() for line in paragraph(short[1], "Callbacks in force:")]
    assert [line[0] for line in lines] == [
        "base_logger",
        "early_stopping",
        "model_checkpoint",
        "csv_logger",
        "progbar_logger",
        "history",
    ]
    assert lines[1][1:] == ["hookloop-early-stopping", "0.1.0", "patience=5"]
    assert lines[3][1:] == ["hookloop-csv-logger", "0.1.0", "filename=runs/digits/log.csv"]


def test_the_demo_shows_each_epoch_and_the_result(short: tuple[Path, str]) -> None:
    """In a file one line an epoch."""
    lines = [line for line in short[1].splitlines() if line.startswith("Epoch ")]
    assert [line.split(" - ")[0] for line in lines] == ["Epoch 1/2", "Epoch 2/2"]
    assert all("val_accuracy: " in line for line in lines)
    assert "\n2 epochs in " in short[1]


def test_the_demo_leaves_checkpoint_csv_and_picture(short: tuple[Path, str]) -> None:
    """And nothing else; it says where."""
    folder, shown = short
    out = folder / "runs" / "digits"
    assert sorted(path.name for path in out.iterdir()) == ["best.pt", "curves.png", "log.csv"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    with (out / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    told = [line.split()[0] for line in paragraph(shown, "In runs/digits:")]
    assert told == ["best.pt", "curves.png", "log.csv"]


def test_a_second_run_keeps_a_better_checkpoint_and_says_so(
    tmp_path: Path, here: Callable[..., Shown]
) -> None:
    """One epoch is worse than three: the older file stays, the rest is new."""
    here("--epochs", "3", "--out", "here")
    before = (tmp_path / "here" / "best.pt").read_bytes()
    done = here("--epochs", "1", "--out", "here")
    (line,) = (one for one in paragraph(done.stdout, "In here:") if "best.pt" in one)
    assert line.endswith("(of an earlier run, which was no worse)")
    assert (tmp_path / "here" / "best.pt").read_bytes() == before
    assert len((tmp_path / "here" / "log.csv").read_text().splitlines()) == 2


def test_callbacks_can_be_chosen(tmp_path: Path, here: Callable[..., Shown]) -> None:
    """From a file, added, replaced and left out; what is not written is not announced."""
    (tmp_path / "more.toml").write_text('[[callbacks]]\nname = "early_stopping"\npatience = 9\n')
    words = "--epochs 1 --callbacks-from more.toml --callback csv_logger:filename=my.csv"
    done = here(*words.split(), "--no-callback=model_checkpoint")
    lines = [line.split() for line in paragraph(done.stdout, "Callbacks in force:")]
    chosen = {line[0]: line[3:] for line in lines}
    assert list(chosen) == [
        "base_logger",
        "early_stopping",
        "csv_logger",
        "progbar_logger",
        "history",
    ]
    assert chosen["early_stopping"] == ["patience=9"]
    assert (tmp_path / "my.csv").exists()
    assert [line.split()[0] for line in paragraph(done.stdout, "In runs/digits:")] == ["curves.png"]
    assert "To load the model again" not in done.stdout


def test_the_callbacks_fit_a_terminal_of_80_columns(
    here: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There their distributions are left out."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = here("--epochs", "1", "--no-callback", "progbar_logger")
    lines = paragraph(done.stdout, "Callbacks in force:")
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == [
        "model_checkpoint",
        "filepath=runs/digits/best.pt",
        "save_best_only=True",
    ]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_shown(
    tmp_path: Path, here: Callable[..., Shown]
) -> None:
    """Not below the table of what would have been done."""
    (tmp_path / "file").write_text("")
    done = here("--epochs", "1", "--out", "file/runs")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "hookloop: file/runs/curves.png cannot be written: Not a directory.\n"
        "fix: choose a folder: a part of the path is a file\n"
    )


def test_without_the_bar_no_epoch_is_shown(here: Callable[..., Shown]) -> None:
    """It was left out, so nothing takes its place."""
    done = here("--epochs", "1", "--no-callback", "progbar_logger")
    assert done.returncode == 0
    assert "Epoch 1" not in done.stdout


def test_the_same_seed_gives_the_same_numbers(
    tmp_path: Path, here: Callable[..., Shown], short: tuple[Path, str]
) -> None:
    """To the last digit of the CSV."""
    here("--epochs", "2", "--out", "again")
    expected = (short[0] / "runs" / "digits" / "log.csv").read_text()
    assert (tmp_path / "again" / "log.csv").read_text() == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "0"], "--epochs=0 makes no sense."),
        (["--seed", "-1"], "--seed=-1 makes no sense."),
        (["--no-callback", "nothing"], "--no-callback nothing: there is no such callback"),
        (["--callback", "erly_stopping"], "Did you mean 'early_stopping'?"),
        (["--callbacks-from", "none.toml"], "There is no file none.toml."),
    ],
    ids=["epochs", "seed", "no-callback", "callback", "file"],
)
def test_what_makes_no_sense_is_refused_before_training(
    tmp_path: Path, here: Callable[..., Shown], words: list[str], said: str
) -> None:
    """In a sentence with a fix, status 2, and nothing on disk."""
    done = here(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("hookloop: ")
    assert said in done.stderr
    assert "\nfix: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "distribution"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")]
)
def test_a_missing_package_is_a_sentence(
    here: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch, module: str, distribution: str
) -> None:
    """With the line that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    done = here()
    assert done.returncode == 2
    assert done.stderr == (
        f"hookloop: hookloop demo needs {distribution}, which is not installed.\n"
        'fix: pip install "hookloop[demo]"\n'
    )


def test_an_interrupt_ends_in_order_with_status_130(tmp_path: Path) -> None:
    """The row of the finished epoch is on disk, and there is no traceback."""
    words = ["--epochs", "1000", "--no-callback", "early_stopping"]
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("Epoch 1/") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "hookloop: interrupted\n")
    assert len((tmp_path / "runs" / "digits" / "log.csv").read_text().splitlines()) >= 2
