"""csv_logger: a row of a CSV file for every epoch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hookloop import Callback, hookimpl
from hookloop.errors import FileError, SettingError, warn
from hookloop.files import file_error, prepare
from hookloop_csv_logger._table import FIRST, MISSING, Table

__all__ = ["CSVLogger"]
__version__ = "0.1.0"

#: Rows that are kept in memory while the file cannot be written; beyond it the oldest are lost.
KEPT = 10_000


@dataclass
class Progress:
    """What has been logged.

    Attributes:
        rows: Rows of the file up to which this run has come, with those that it found there.
        waiting: Rows that are not in the file yet.
        lost: Rows that will never be.
    """

    rows: int = 0
    waiting: list[dict[str, str]] = field(default_factory=list)
    lost: int = 0


class CSVLogger(Callback):
    """Writes the logs of every epoch as a row of a CSV file.

    The columns are ``epoch`` (from 0), then all that was reported, in that order. A name that is
    first reported later widens the file; where a value is missing, the cell is ``NA``.

    Args:
        filename: The file. Its folders are made.
        separator: One character between the cells.
        append: Whether to go on in an existing file; otherwise it is replaced when the first epoch
            ends. A resumed run always goes on in its own.

    Raises:
        SettingError: For a separator that cannot be told from the numbers, or no filename.
    """

    observer = True

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        if not os.fspath(filename):
            raise SettingError("csv_logger: filename is empty.", fix="filename=log.csv")
        self.filename = filename
        self.sep = "\t" if separator == r"\t" else separator  # as a shell or a file hands it over
        self.append = append
        if len(self.sep) != 1 or self.sep.isalnum() or self.sep in '"\r\n.+-':
            message = f"csv_logger: separator={separator!r} cannot separate numbers."
            raise SettingError(message, fix="one character, such as ',', ';' or a tab")
        self._table: Table | None = None
        self._progress = Progress()
        self._failing = False

    @property
    def keys(self) -> list[str]:
        """Columns of the file after ``epoch``; empty before the first row."""
        columns = self._table.columns if self._table is not None else []
        return [name for name in columns if name != FIRST]

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._progress, self._failing = Progress(), False
        path = Path(os.path.realpath(self.filename))  # one file, however its path is written
        prepare(path, self.loop, self._who)
        self._table = Table(path, self.sep)
        self._table.check()
        if self.append:
            self._progress.rows = self._table.count()
        elif self.loop.resumed:  # unless the state to come says it
            with suppress(FileError):
                self._progress.rows = self._table.count(before=self.loop.epoch)

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        row = {FIRST: str(epoch)}
        row |= {str(key): text(value) for key, value in (logs or {}).items() if key != FIRST}
        waiting = self._progress.waiting
        waiting.append(row)
        self._progress.lost += len(waiting[:-KEPT])
        del waiting[:-KEPT]
        self._write()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._progress.waiting:
            self._write()
        lost = self._progress.lost + len(self._progress.waiting)
        if lost:
            self._warn(f"{lost} rows could not be written to {self.filename}, and are lost.")

    def _write(self) -> None:
        """Write the rows that wait; if that is not possible, keep them, and say so once."""
        progress = self._progress
        if self._table is None:
            return
        anew = not self.append and not progress.rows
        try:
            rows = self._table.write(progress.waiting, progress.rows, anew=anew)
        except OSError as error:
            self._complain(error)
            return
        gone = progress.rows + len(progress.waiting) - rows
        if gone:
            self.loop.message(f"{self._who}: {gone} earlier rows are gone from {self.filename}.")
        if self._failing:
            kept = len(progress.waiting)
            self.loop.message(
                f"{self._who}: {kept} rows that were kept are in {self.filename} now."
            )
        progress.rows, progress.waiting, self._failing = rows, [], False

    def _complain(self, error: OSError) -> None:
        if not self._failing:
            why = error if isinstance(error, FileError) else file_error(self.filename, error)
            self._warn(f"rows are kept in memory, up to {KEPT:,}, until they can be written: {why}")
        self._failing = True

    def _warn(self, message: str) -> None:
        warn(f"{self._who}: {message}", RuntimeWarning)

    @property
    def _who(self) -> str:
        return self.loop.name_of(self)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self._progress)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        waiting = [dict(row) for row in state["waiting"]]
        self._progress = Progress(int(state["rows"]), waiting, int(state["lost"]))


def text(value: Any) -> str:
    """Write a value as the text of a cell.

    Args:
        value: A number or text; an array, tensor or list becomes ``[1, 2]``, None ``NA``.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return MISSING
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return f"[{', '.join(map(text, value))}]"
    return str(value)
