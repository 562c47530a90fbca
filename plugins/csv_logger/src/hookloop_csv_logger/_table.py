"""A CSV file that grows: by a row at its end, or whole by a new column. Knows nothing of a loop."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from hookloop.errors import FileError
from hookloop.files import atomic_write, file_error

FIRST = "epoch"
MISSING = "NA"


class Table:
    """A CSV file with a header, whose first column of ours is ``epoch``.

    It is open only while it is written to, so that nothing can leave it open.

    Args:
        path: The file; it need not exist.
        separator: One character between the cells.

    Attributes:
        columns: Names of the columns; empty until the file has been written to.
    """

    def __init__(self, path: Path, separator: str) -> None:
        self.path = path
        self.columns: list[str] = []
        self._separator = separator
        self._line_end = "\n"

    def check(self) -> None:
        """Try, without a change, that an existing file can be written to.

        Raises:
            FileError: If it cannot be, or is a device or the like.
        """
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise FileError(f"{self.path} is no plain file.", fix="choose another filename")
        try:
            open(self.path, "r+b").close()
        except OSError as error:
            raise file_error(self.path, error) from error

    def count(self, before: int | None = None) -> int:
        """Count the rows.

        Args:
            before: Stop at the first row that is not of an epoch before this one.

        Raises:
            FileError: If the file cannot be read as a log.
        """
        found, place = -1, 0
        for cells, _ in self._records():
            if found < 0:
                place = cells.index(FIRST)
            elif before is not None and not _is_before(cells[place], before):
                break
            found += 1
        return max(found, 0)

    def write(self, rows: Sequence[Mapping[str, str]], after: int, *, anew: bool) -> int:
        """Write rows, and leave out what the file holds after a certain row.

        The rows are appended, at a cost that does not depend on the size of the file. It is
        rewritten whole only if they bring a column that it lacks.

        Args:
            rows: Cells by the name of their column.
            after: Rows of the file that stay.
            anew: Whether what the file holds now is of no interest, its columns included.

        Returns:
            How many rows the file has now; fewer than expected if some had disappeared.

        Raises:
            OSError: If it cannot be written; the rows that were to stay are in it still.
        """
        known, stays, end = self.columns, after, None
        if not known and not anew:
            known, stays, end = self._find(after)
        new = [name for name in dict.fromkeys(chain.from_iterable(rows)) if name not in known]
        self.columns = []  # in doubt until all of it is written: then the file is read again
        if new:
            self._rewrite(known, new, stays, rows)
        else:
            self._append(known, rows, end)
        self.columns = [*known, *new]
        return stays + len(rows)

    def _find(self, keep: int) -> tuple[list[str], int, int]:
        """Give the columns, the number of rows up to ``keep``, and where the last of them ends."""
        columns: list[str] = []
        rows = end = 0
        for cells, after in self._records():
            if not columns:
                columns = cells
            elif rows == keep:
                break
            else:
                rows += 1
            end = after
        return columns, rows, end

    def _append(
        self, columns: list[str], rows: Sequence[Mapping[str, str]], end: int | None
    ) -> None:
        text = io.BytesIO()
        self._writer(text).writerows(_cells(columns, row) for row in rows)
        data = text.getvalue()
        # Unbuffered: what a full disk refuses must not be tried again when the file is closed.
        with open(self.path, "r+b", buffering=0) as file:
            if end is not None:
                file.truncate(end)
            end = file.seek(0, os.SEEK_END)
            file.seek(end - 1)
            if file.read(1) != b"\n":
                data = self._line_end.encode() + data
            try:
                while data:
                    data = data[file.write(data) :]
            except BaseException:
                with suppress(OSError):  # a row is there whole or not at all
                    file.truncate(end)
                raise

    def _rewrite(
        self, known: list[str], new: list[str], stays: int, rows: Sequence[Mapping[str, str]]
    ) -> None:
        columns = [*known, *new]
        if not known:
            self._line_end = "\n"

        def content(file: IO[bytes]) -> None:
            writer = self._writer(file)
            writer.writerow(columns)
            if known:
                for cells, _ in islice(self._records(), 1, stays + 1):
                    writer.writerow([*cells, *[MISSING] * (len(columns) - len(cells))])
            writer.writerows(_cells(columns, row) for row in rows)

        atomic_write(self.path, content)

    def _writer(self, file: IO[bytes]) -> Any:
        text = codecs.getwriter("utf-8")(file)
        return csv.writer(text, delimiter=self._separator, lineterminator=self._line_end)

    def _records(self) -> Iterator[tuple[list[str], int]]:
        """Read header and rows, each with the place of its end in bytes.

        The last line of a process that was killed may be torn, and is left out: it has no line
        end, and too few cells, an empty last one, or an open quote.
        """
        if not self.path.exists():
            return
        with open(self.path, "rb") as file, _cells_of_any_size():
            lines = _Lines(file)
            reader = csv.reader(lines, delimiter=self._separator, strict=True)
            width = 0
            try:
                for cells in filter(None, reader):
                    if not width:
                        self._line_end = "\r\n" if lines.last.endswith(b"\r\n") else "\n"
                    self._refuse(cells, width, lines.number)
                    if not lines.last.endswith(b"\n") and (len(cells) < width or not cells[-1]):
                        return
                    width = width or len(cells)
                    yield cells, lines.end
            except (csv.Error, UnicodeDecodeError) as error:
                if not lines.done:
                    raise self._no_log(f"line {lines.number}: {error}") from None

    def _refuse(self, cells: list[str], width: int, line: int) -> None:
        if not width and FIRST not in cells:
            raise self._no_log(f"its header {self._separator.join(cells)!r} has no column {FIRST}")
        if width and len(cells) > width:
            raise self._no_log(f"line {line} has {len(cells)} cells, its header {width}")

    def _no_log(self, why: str) -> FileError:
        fix = f"choose another filename, or the separator that it has (now {self._separator!r})"
        return FileError(f"{self.path} is no log that can be continued: {why}.", fix=fix)


class _Lines:
    """The lines of a file as text, and where the reading is.

    Attributes:
        last: The line read last, as bytes.
        number: Its number, from 1.
        end: Where it ends, in bytes.
        done: Whether the end of the file was reached.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last, self.number, self.end, self.done = b"", 0, 0, False

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.number += 1
            try:
                text = line.decode("utf-8-sig")  # Excel writes a mark in front
            except UnicodeDecodeError:
                if line.endswith(b"\n"):
                    raise
                break  # torn inside a character
            self.last = line
            self.end += len(line)
            yield text
        self.done = True


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """Let the csv module read what it wrote: unless told, it takes no cell above 128 KiB."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _cells(columns: Sequence[str], row: Mapping[str, str]) -> list[str]:
    return [row.get(name, MISSING) for name in columns]


def _is_before(cell: str, epoch: int) -> bool:
    try:
        return float(cell) < epoch
    except ValueError:
        return False
