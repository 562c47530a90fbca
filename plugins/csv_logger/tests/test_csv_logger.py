"""What csv_logger promises about the file that it writes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hookloop_csv_logger import CSVLogger, text

from hookloop import Callback, CallbackList, Trainer, hookimpl, load
from hookloop.errors import SettingError


def log_epochs(logger: Any, *epochs: dict[str, Any], first: int = 0) -> None:
    """Drive one callback through a run of these epochs."""
    callbacks = CallbackList([logger], model=torch.nn.Linear(1, 1))
    callbacks.on_train_begin()
    for epoch, logs in enumerate(epochs, first):
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.csv"


# -- columns and cells ---------------------------------------------------------------


def test_epoch_comes_first_then_what_was_reported_in_its_order(path: Path) -> None:
    """Columns keep the order of the logs; lines end with a line feed alone."""
    log_epochs(CSVLogger(path), {"loss": 0.5, "acc": 1.0}, {"loss": 0.25, "acc": 2})
    assert path.read_bytes() == b"epoch,loss,acc\n0,0.5,1.0\n1,0.25,2\n"


def test_no_column_is_invented(path: Path) -> None:
    """Without validation there is no val_ column."""
    log_epochs(CSVLogger(path), {"loss": 1.5})
    assert path.read_text() == "epoch,loss\n0,1.5\n"


def test_a_new_column_widens_the_file(path: Path) -> None:
    """Earlier rows get NA where the new column is."""
    log_epochs(CSVLogger(path), {"loss": 3.0}, {"loss": 2.0, "val_loss": 2.5}, {"loss": 1.0})
    assert path.read_text() == "epoch,loss,val_loss\n0,3.0,NA\n1,2.0,2.5\n2,1.0,NA\n"


def test_a_column_that_is_missing_in_an_epoch_is_na(path: Path) -> None:
    """The other columns of that row stay where they are."""
    log_epochs(CSVLogger(path), {"loss": 3.0, "lr": 0.1}, {"lr": 0.2})
    assert path.read_text() == "epoch,loss,lr\n0,3.0,0.1\n1,NA,0.2\n"


def test_a_reported_epoch_does_not_replace_the_number_of_the_epoch(path: Path) -> None:
    """The column epoch is the logger's own."""
    log_epochs(CSVLogger(path), {"epoch": 77, "loss": 1.0})
    assert path.read_text() == "epoch,loss\n0,1.0\n"


def test_an_epoch_without_logs_is_a_row(path: Path) -> None:
    """The number of the epoch alone."""
    log_epochs(CSVLogger(path), {})
    assert path.read_text() == "epoch\n0\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.1, "0.1"),
        (3, "3"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, "NA"),
        ("warm", "warm"),
        (torch.tensor(0.5), "0.5"),
        (np.float64(0.25), "0.25"),
        (torch.tensor([1, 2]), "[1, 2]"),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (torch.ones(2, requires_grad=True), "[1.0, 1.0]"),
        ([torch.tensor(1), np.float32(0.5), "a"], "[1, 0.5, a]"),
        ((1, 2), "[1, 2]"),
        ({"a": 1}, "{'a': 1}"),
    ],
    ids=lambda value: str(value).replace("\n", " "),
)
def test_any_value_becomes_the_text_of_a_cell(value: Any, written: str) -> None:
    """0-d values are numbers, other arrays and lists are in brackets."""
    assert text(value) == written


def test_tensors_are_written_as_numbers_and_lists(path: Path) -> None:
    """A list holds the separator, so that its cell is quoted."""
    log_epochs(CSVLogger(path), {"loss": torch.tensor(0.5), "each": torch.tensor([1, 2])})
    assert path.read_text() == 'epoch,loss,each\n0,0.5,"[1, 2]"\n'


def test_a_name_that_holds_the_separator_is_quoted(path: Path) -> None:
    """What a csv reader gives back is what was reported."""
    log_epochs(CSVLogger(path), {"top,5": 'a "b", c'}, {"top,5": 2, "x": 1})
    assert path.read_text() == 'epoch,"top,5",x\n0,"a ""b"", c",NA\n1,2,1\n'


@pytest.mark.parametrize(("separator", "between"), [(";", ";"), ("\t", "\t"), (r"\t", "\t")])
def test_the_separator_is_the_one_asked_for(path: Path, separator: str, between: str) -> None:
    r"""A tab can be written as \t, too, as on a command line."""
    log_epochs(CSVLogger(path, separator), {"loss": 1.0})
    assert path.read_text() == f"epoch{between}loss\n0{between}1.0\n"


@pytest.mark.parametrize("separator", ["", ",,", "7", '"', "\n", ".", "-", "e"])
def test_a_separator_that_numbers_contain_is_refused(separator: str) -> None:
    """Refused when the callback is made."""
    with pytest.raises(SettingError, match="cannot separate numbers"):
        CSVLogger("log.csv", separator)


def test_an_empty_filename_is_refused() -> None:
    """Refused when the callback is made."""
    with pytest.raises(SettingError, match="filename is empty"):
        CSVLogger("")


def test_it_is_found_by_name(path: Path) -> None:
    """Name and settings as text make a CSVLogger."""
    logger = load(f"csv_logger:filename={path},append=true")
    assert isinstance(logger, CSVLogger)
    assert (logger.filename, logger.sep, logger.append) == (str(path), ",", True)


# -- when the file is touched ---------------------------------------------------------------


def test_every_row_is_in_the_file_when_its_epoch_has_ended(path: Path) -> None:
    """Nothing waits in a buffer."""
    seen = []
    callbacks = CallbackList([CSVLogger(path)], model=None)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_end(epoch, {"loss": epoch})
        seen.append(path.read_text())
    assert seen == ["epoch,loss\n0,0\n", "epoch,loss\n0,0\n1,1\n"]


def test_an_old_file_is_there_until_the_first_epoch_has_ended(path: Path) -> None:
    """A run that fails before that has not destroyed anything."""
    path.write_text("epoch,loss\n0,9\n")
    callbacks = CallbackList([CSVLogger(path)], model=None)
    callbacks.on_train_begin()
    assert path.read_text() == "epoch,loss\n0,9\n"
    callbacks.on_epoch_end(0, {"acc": 1})
    assert path.read_text() == "epoch,acc\n0,1\n"


def test_each_run_of_one_instance_begins_a_new_file(path: Path) -> None:
    """As in Keras, unless append is asked for."""
    logger = CSVLogger(path)
    log_epochs(logger, {"loss": 1}, {"loss": 2})
    log_epochs(logger, {"acc": 3})
    assert path.read_text() == "epoch,acc\n0,3\n"


def test_folders_are_made(tmp_path: Path) -> None:
    """Also several of them."""
    log_epochs(CSVLogger(tmp_path / "runs" / "7" / "log.csv"), {"loss": 1})
    assert (tmp_path / "runs" / "7" / "log.csv").read_text() == "epoch,loss\n0,1\n"


def test_the_columns_can_be_read_as_in_keras(path: Path) -> None:
    """``keys`` are the columns after the epoch."""
    logger = CSVLogger(path)
    assert logger.keys == []
    log_epochs(logger, {"loss": 1, "acc": 2})
    assert logger.keys == ["loss", "acc"]


def test_it_records_what_later_callbacks_add(path: Path) -> None:
    """It runs after all that are neither first nor last, wherever it stands in the list."""

    class Adds(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["added"] = 5

    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    x = torch.zeros(4, 1)
    trainer.fit((x, x + 1), validation_data=(x, x), callbacks=[CSVLogger(path), Adds()], verbose=0)
    assert path.read_text().splitlines()[0] == "epoch,loss,val_loss,added"


def test_the_file_is_closed_when_training_fails(path: Path) -> None:
    """No descriptor is left, and every epoch that ended is in the file."""

    class Fails(Callback):
        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise ZeroDivisionError

    before = len(os.listdir("/proc/self/fd"))
    callbacks = CallbackList([CSVLogger(path), Fails()], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"loss": 1})
    with pytest.raises(ZeroDivisionError):
        callbacks.on_epoch_end(1, {"loss": 2})
    assert len(os.listdir("/proc/self/fd")) == before
    assert path.read_text() == "epoch,loss\n0,1\n1,2\n"
