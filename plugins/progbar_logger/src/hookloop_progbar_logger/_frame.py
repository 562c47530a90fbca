"""What a bar looks like: one frame as plain text, or as lines that fit a width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

from rich.cells import cell_len
from rich.text import Text

LONGEST, SHORTEST = 30, 5
#: What is left out last where there is no room for all.
_FIRST = {"loss": 0, "val_loss": 1}


@dataclass(frozen=True)
class Frame:
    """All that is shown at one moment.

    Attributes:
        label: What is under way, as ``Epoch 3/10``.
        done: Batches or samples done.
        total: How many there will be; None where unknown.
        unit: What is counted: ``batch`` or ``sample``.
        seconds: Since the start.
        left: Seconds to go, where known.
        rate: Units per second, where known.
        note: What goes on beside, as ``validation 3/12``.
        values: Metrics by name.
        finished: Whether this is the last frame.
    """

    label: str
    done: int = 0
    total: int | None = None
    unit: str = "batch"
    seconds: float = 0.0
    left: float | None = None
    rate: float | None = None
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    finished: bool = False

    def line(self) -> str:
        """Write everything into one line of plain text, of any length."""
        count = [f"{self.done}/{self.total or self.done}"] if self.done else []
        return " - ".join([self.label, *count, *self._pace(), *self._metrics()])

    def picture(self, width: int, *, ascii_only: bool = False) -> Text:
        """Draw the bar, and the metrics below it, in lines that fit.

        While it runs the metrics are one line, which leaves out what does not fit: a picture that
        is redrawn must not change its height. The last one has all of them, in as many lines as
        that takes.

        Args:
            width: Of the screen, in cells; the screen itself never wraps a line.
            ascii_only: Whether the screen can show nothing else.

        Returns:
            Text of one or more lines, without a line end.
        """
        separator, ellipsis = (" - ", "...") if ascii_only else (" • ", "…")
        room = width - 1  # a full last column makes some terminals wrap
        text = Text(no_wrap=True, overflow="crop")
        text.append(_cut(self.label, room, ellipsis), "bold")
        self._append_bar(text, room, "#-" if ascii_only else "━─")
        details = filter(None, [self._count(), self.note, *self._pace()])
        shown = _fitting(details, room - text.cell_len - 1, separator)
        text.append(f" {separator.join(shown)}" if shown else "")
        for line in self._lines(room - 2, separator, ellipsis):
            text.append("\n  ")
            for index, metric in enumerate(line):
                name, colon, value = metric.rpartition(": ")
                text.append(separator if index else "", "dim")
                text.append(name + colon, "dim").append(value)
        return text

    def _lines(self, room: int, separator: str, ellipsis: str) -> list[list[str]]:
        """Lay the metrics out in lines: one while the bar runs, all that it takes at the end."""
        if not self.finished:
            first = sorted(self.values, key=lambda name: _FIRST.get(name, len(_FIRST)))
            shown = _fitting(self._metrics(first), room, separator, ellipsis)
            return [shown] if self.values else []
        lines: list[list[str]] = []
        for metric in self._metrics():
            if lines and cell_len(separator.join([*lines[-1], metric])) <= room:
                lines[-1].append(metric)
            else:
                lines.append([_shortened(metric, room, ellipsis)])
        return lines

    def _append_bar(self, text: Text, room: int, marks: str) -> None:
        """Add a bar of a length that stays the same however counts and times change."""
        digits = 2 * len(str(self.total)) + 1 if self.total else 8
        others = len(self.label) + digits + len("  • 0:00:00 left • 000.0 batch/s")
        length = min(LONGEST, max(SHORTEST, room - others))
        if text.cell_len + 2 + length + digits > room or not (self.done or self.total):
            return
        full = round(length * self.done / self.total) if self.total else length // 4
        start = 0 if self.total else int(self.seconds * 10) % (length - full)  # unknown: it wanders
        color = "green" if self.finished else "cyan"
        text.append(" ")
        text.append(marks[1] * start, "dim").append(marks[0] * full, color)
        text.append(marks[1] * (length - full - start), "dim")

    def _count(self) -> str:
        if self.total is None:
            return f"{self.done}/?" if self.done else ""
        return f"{self.done:>{len(str(self.total))}}/{self.total}"

    def _pace(self) -> list[str]:
        time = duration(self.seconds)
        if self.finished and self.seconds < 60:
            time = f"{self.seconds:.1f}s"
        elif not self.finished and self.left is not None:
            time = f"{duration(ceil(self.left))} left"
        return [time, *([] if self.rate is None else [speed(self.rate, self.unit)])]

    def _metrics(self, names: Iterable[str] | None = None) -> list[str]:
        shown = self.values if names is None else {name: self.values[name] for name in names}
        return [f"{' '.join(name.split())}: {number(v)}" for name, v in shown.items()]


def number(value: float) -> str:
    """Write a metric with four decimals, and what is small with four significant digits.

    So learning rates read 0.0100, 0.005, 0.001, 0.0005, and none of them loses digits.
    """
    if isinstance(value, int):
        return str(value)
    if 0 < abs(value) < 0.01:
        return f"{value:.4g}"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4e}"


def duration(seconds: float) -> str:
    """Write seconds as ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def speed(rate: float, unit: str) -> str:
    """Write a rate per second; a slow one as the time of one."""
    if rate < 1:
        return f"{1 / rate:.1f} s/{unit}"
    return f"{rate:.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def _fitting(parts: Iterable[str], room: int, separator: str, ellipsis: str = "") -> list[str]:
    """Take whole parts from the left while they fit; an ellipsis stands for those left out."""
    shown: list[str] = []
    rest = list(parts)
    while rest:
        more = [*shown, rest.pop(0)]
        tail = [ellipsis] if rest and ellipsis else []
        if cell_len(separator.join([*more, *tail])) > room:
            fits = ellipsis and cell_len(separator.join([*shown, ellipsis])) <= room
            return [*shown, ellipsis] if fits else shown
        shown = more
    return shown


def _shortened(metric: str, room: int, ellipsis: str) -> str:
    """Shorten the name of a metric that is longer than a line; nothing of its value."""
    name, _, value = metric.rpartition(": ")
    if cell_len(metric) <= room:
        return metric
    while name and cell_len(f"{name}{ellipsis}: {value}") > room:
        name = name[:-1]
    return f"{name}{ellipsis}: {value}" if name else _cut(value, room, ellipsis)


def _cut(text: str, room: int, ellipsis: str) -> str:
    return text if len(text) <= room else text[: max(0, room - len(ellipsis))] + ellipsis
