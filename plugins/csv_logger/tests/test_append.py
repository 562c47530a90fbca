"""What csv_logger does with a file that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hookloop_csv_logger import CSVLogger

from hookloop import CallbackList
from hookloop.errors import FileError


def append(path: Path, *epochs: dict[str, Any], separator: str = ",") -> str:
    """Append a run of these epochs; give what the file holds then."""
    callbacks = CallbackList([CSVLogger(path, separator, append=True)], model=None)
    callbacks.on_train_begin()
    for epoch, logs in enumerate(epochs):
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()
    return path.read_bytes().decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.csv"


def test_a_file_that_is_not_there_is_begun(path: Path) -> None:
    """With a header."""
    assert append(path, {"loss": 1}) == "epoch,loss\n0,1\n"


def test_a_second_run_writes_no_second_header(path: Path) -> None:
    """Its rows follow those of the first."""
    append(path, {"loss": 1}, {"loss": 2})
    assert append(path, {"loss": 3}) == "epoch,loss\n0,1\n1,2\n0,3\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "epoch,loss\n0,5\n", id="empty"),
        pytest.param("epoch,loss\n", "epoch,loss\n0,5\n", id="header alone"),
        pytest.param("loss,epoch\n1,0\n", "loss,epoch\n1,0\n5,0\n", id="other order"),
        pytest.param("epoch,acc\n0,1\n", "epoch,acc,loss\n0,1,NA\n0,NA,5\n", id="other columns"),
        pytest.param("epoch,loss\n0,1", "epoch,loss\n0,1\n0,5\n", id="no line end"),
        pytest.param("epoch,loss", "epoch,loss\n0,5\n", id="header without line end"),
        pytest.param("epoch,loss\n0,1\n1", "epoch,loss\n0,1\n0,5\n", id="torn"),
        pytest.param("epoch,loss\n0,1\n1,", "epoch,loss\n0,1\n0,5\n", id="torn after separator"),
        pytest.param('epoch,loss\n0,1\n1,"[1, ', "epoch,loss\n0,1\n0,5\n", id="torn in quotes"),
        pytest.param('epoch,loss\n0,1\n1,"a\n', "epoch,loss\n0,1\n0,5\n", id="torn in quoted line"),
        pytest.param(
            'epoch,acc\n0,1\n1,"[', "epoch,acc,loss\n0,1,NA\n0,NA,5\n", id="torn, widened"
        ),
        pytest.param("epoch,loss\n\n0,1\n\n", "epoch,loss\n\n0,1\n0,5\n", id="blank lines"),
        pytest.param("epoch,loss,x\n0,1\n", "epoch,loss,x\n0,1\n0,5,NA\n", id="short row"),
        pytest.param("epoch,loss\r\n0,1\r\n", "epoch,loss\r\n0,1\r\n0,5\r\n", id="of Keras"),
        pytest.param(
            "epoch,a\r\n0,1\r\n", "epoch,a,loss\r\n0,1,NA\r\n0,NA,5\r\n", id="wider Keras"
        ),
        pytest.param("\ufeffepoch,loss\n0,1\n", "\ufeffepoch,loss\n0,1\n0,5\n", id="of Excel"),
        pytest.param('epoch,loss\n0,"a\nb"\n', 'epoch,loss\n0,"a\nb"\n0,5\n', id="quoted lines"),
    ],
)
def test_rows_stay_aligned_with_what_is_there(path: Path, before: str, after: str) -> None:
    """The header that is there says where a value goes; torn last lines are dropped."""
    path.write_bytes(before.encode())
    assert append(path, {"loss": 5}) == after


def test_a_line_torn_inside_a_character_is_dropped(path: Path) -> None:
    """Bytes that are no text are no reason to stop, if they are the torn end."""
    path.write_bytes("epoch,name\n0,é\n1,é".encode()[:-1])
    assert append(path, {"name": "ü"}) == "epoch,name\n0,é\n0,ü\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param("epoch;loss\n0;1\n", "has no column epoch", id="other separator"),
        pytest.param("name,price\nx,1\n", "has no column epoch", id="no log"),
        pytest.param("epoch,loss\n0,1\n1,2,3\n", "line 3 has 3 cells, its header 2", id="ragged"),
        pytest.param('epoch,loss\n0,"a"b\n1,2\n', "line 2", id="no csv"),
    ],
)
def test_a_file_that_is_no_such_log_is_refused(path: Path, content: str, why: str) -> None:
    """Before training, and without a change of the file."""
    path.write_text(content)
    with pytest.raises(FileError, match=why) as caught:
        append(path, {"loss": 5})
    assert "fix: choose another filename" in str(caught.value)
    assert path.read_text() == content


def test_a_file_that_is_no_text_is_refused(path: Path) -> None:
    """Before training."""
    path.write_bytes(b"epoch,loss\n\xff\xfe,1\n")
    with pytest.raises(FileError, match="no log that can be continued"):
        append(path, {"loss": 5})


def test_a_cell_of_any_size_is_read_again(path: Path) -> None:
    """The csv module would stop at 128 KiB."""
    long = "x" * 200_000
    append(path, {"name": long})
    assert append(path, {"loss": 5}) == f"epoch,name,loss\n0,{long},NA\n0,NA,5\n"


def test_a_row_costs_the_same_however_long_the_file_is(path: Path) -> None:
    """Appending reads one byte and writes one row: the descriptor's counters tell."""
    path.write_text("epoch,loss\n" + "0,1\n" * 100_000)
    callbacks = CallbackList([CSVLogger(path, append=True)], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1})  # looks at the file, once
    before = _bytes_read()
    callbacks.on_epoch_end(1, {"loss": 2})
    assert _bytes_read() - before < 10_000


def _bytes_read() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


@pytest.mark.reliability("H9")
def test_what_a_spreadsheet_would_take_for_a_formula_is_written_as_it_was_logged(
    path: Path,
) -> None:
    """A table is read by programs too, to whom a quote before it would be part of the name."""
    assert append(path, {"=1+1": -1.5, "@a": "+2"}) == "epoch,=1+1,@a\n0,-1.5,+2\n"
