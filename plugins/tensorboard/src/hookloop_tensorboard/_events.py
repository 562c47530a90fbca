"""Event files: what TensorBoard reads, grown by whole records. Knows nothing of a loop."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hookloop import files

#: Records that are kept in memory while a file cannot be written; beyond it the oldest are lost.
KEPT = 10_000
_STAMP = re.compile(r"events\.out\.tfevents\.(\d+)")


class EventFiles:
    """The event files of one log folder, which has a folder for each run in it.

    A file is open only while it is written to, so that nothing can leave it open, and is written
    on the calling thread, so that its length is known. Its records are those that TensorBoard's
    own writer makes.

    Args:
        folder: The log folder.
        key: Stands in the names of the files, to tell them from those of others.

    Attributes:
        lengths: For each file of ours, relative to the folder, its length in bytes.
        lost: Records that will never be written.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self.lengths: dict[str, int] = {}
        self.lost = 0
        self._current: dict[str, str] = {}
        self._waiting: dict[str, list[bytes]] = {}
        self._cut = False

    @property
    def waiting(self) -> int:
        """How many records are not in a file yet."""
        return sum(map(len, self._waiting.values()))

    def foreign(self) -> bool:
        """Tell whether the folder holds runs that are not ours."""
        found = self.folder.glob("*/*tfevents*")
        return any(not path.name.endswith(self.key) for path in found)

    def continue_from(self, key: str, lengths: dict[str, int]) -> None:
        """Go on where the files had these lengths: the first write drops what came after."""
        # The key stands in the pattern of the files that are cut: it must not mean others' too.
        if not re.fullmatch(r"[0-9a-f]{8}", key) or not all(
            type(n) is int for n in lengths.values()
        ):
            raise ValueError("the names and lengths of its files are none of ours")
        self.key, self.lengths = key, dict(lengths)
        self._current, self._waiting, self._cut = {}, {}, True

    def add(self, run: str, step: int | None = None, **fields: Any) -> None:
        """Add a record to a run.

        Args:
            run: Name of its folder.
            step: Where it stands on the axis.
            **fields: Of the event: ``summary``, ``graph_def`` and so on.
        """
        waiting = self._waiting.setdefault(run, [])
        waiting.append(_record(step=step, **fields))
        self.lost += len(waiting[:-KEPT])
        del waiting[:-KEPT]

    def write(self) -> None:
        """Write what waits.

        Raises:
            OSError: If that is not possible; the files are whole, and the records wait on.
        """
        if self._cut:
            self._drop_later()
            self._cut = False
        for run, records in self._waiting.items():
            if records:
                self._append(self._current.get(run) or self._new(run), b"".join(records))
                records.clear()

    def _drop_later(self) -> None:
        for path in self.folder.glob(f"*/events.out.tfevents.*.{self.key}"):
            keep = self.lengths.get(path.relative_to(self.folder).as_posix())
            if keep is None:
                files.delete(path)
            elif keep < path.stat().st_size:
                os.truncate(path, keep)

    def _new(self, run: str) -> str:
        """Name a file that TensorBoard, which goes by the names, reads after all others."""
        names = (_STAMP.match(path.name) for path in (self.folder / run).glob("events*"))
        newest = max((int(name[1]) for name in names if name), default=0)
        stamp = max(int(time.time()), newest + 1)
        # Torch's own writer puts the machine's name here; this one is kept in saved states.
        name = f"{run}/events.out.tfevents.{stamp:010d}.hookloop.{os.getpid()}.{self.key}"
        return self._current.setdefault(run, name)

    def _append(self, name: str, data: bytes) -> None:
        path = self.folder / name
        files.disk.make(path.parent)
        with open(path, "ab", buffering=0) as file:
            start = min(file.tell(), self.lengths.get(name, 0))  # 0 also if somebody deleted it
            data = data if start else _record(file_version="brain.Event:2") + data
            self.lengths[name] = start + len(data)
            try:
                file.truncate(start)
                while data:
                    data = data[file.write(data) :]
            except BaseException:
                self.lengths[name] = start
                with suppress(OSError):  # a record is there whole or not at all
                    file.truncate(start)
                raise


def _record(**fields: Any) -> bytes:
    from io import BytesIO

    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = BytesIO()
    RecordWriter(buffer).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return buffer.getvalue()
