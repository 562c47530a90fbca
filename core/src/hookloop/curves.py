"""Drawing a history: one panel for each metric, training beside validation."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from hookloop import files
from hookloop.errors import ArgumentError, HookloopError, listed
from hookloop.monitor import direction_of

#: Epochs, from 1, and the values reported at their end.
Series = tuple[Sequence[int], Sequence[float]]

_TRAINING, _VALIDATION, _QUIET = "#9aa5b1", "#1f6feb", "#57606a"
_IN_A_ROW = 3


def draw(series: Mapping[str, Series], path: str | os.PathLike[str] | None = None) -> Any:
    """Draw each metric with its ``val_`` twin in one panel, the best value marked.

    Args:
        series: What was reported, by name. What holds anything but numbers is left out.
        path: Where to save the picture; the suffix decides the format.

    Returns:
        The matplotlib figure.

    Raises:
        HookloopError: If matplotlib is not installed.
        ArgumentError: If the suffix is that of no format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        message = "history.plot() draws with matplotlib, which is not installed."
        raise HookloopError(message, fix='pip install "hookloop[plot]"') from None
    drawn = {name: one for name, one in series.items() if one[0] and _is_numeric(one)}
    names = list(dict.fromkeys(name.removeprefix("val_") for name in drawn))
    across = min(max(len(names), 1), _IN_A_ROW)
    down = max(math.ceil(len(names) / _IN_A_ROW), 1)
    figure = Figure(figsize=(5.2 * across, 3.7 * down), layout="constrained")
    for place, name in enumerate(names, 1):
        _panel(figure.add_subplot(down, across, place), name, drawn)
    if not names:
        figure.text(0.5, 0.5, "no epoch was recorded", ha="center", color=_QUIET)
    if path is not None:
        _save(figure, Path(path))
    return figure


def _is_numeric(series: Series) -> bool:
    return all(isinstance(value, int | float) for value in series[1])


def _panel(axes: Any, name: str, drawn: Mapping[str, Series]) -> None:
    pair = [(drawn.get(name), _TRAINING), (drawn.get(f"val_{name}"), _VALIDATION)]
    shown = [(one, colour) for one, colour in pair if one]
    for (epochs, values), colour in shown:
        is_training = colour == _TRAINING
        alone = is_training and len(shown) == 1
        axes.plot(
            epochs,
            values,
            color=_VALIDATION if alone else colour,
            linewidth=1.8,
            marker="." if len(values) < 2 else None,
            label="training" if is_training else "validation",
        )
    axes.set_title(name.replace("_", " "), loc="left", fontweight="bold")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _scale(axes, name, [one for one, _ in shown])
    if len(shown) > 1:
        axes.legend(frameon=False)
        _mark_best(axes, name, shown[1][0])


def _scale(axes: Any, name: str, shown: Sequence[Series]) -> None:
    """Count whole epochs, from the first that there is, and fit the upright axis to the values."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    epochs = [epoch for some, _ in shown for epoch in some]
    margin = max((max(epochs) - min(epochs)) * 0.03, 0.4)
    axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if _spans_decades(name, [v for _, some in shown for v in some if math.isfinite(v)]):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # 0.02, not a power of ten
        axes.yaxis.set_minor_formatter(NullFormatter())


def _spans_decades(name: str, values: Sequence[float]) -> bool:
    """Tell whether a panel wants a logarithmic axis: a loss, or a rate, that fell a long way."""
    falls = direction_of(name) == "min" or name in ("lr", "learning_rate")
    return falls and bool(values) and min(values) > 0 and max(values) / min(values) > 20


def _mark_best(axes: Any, name: str, series: Series) -> None:
    direction = direction_of(name)
    points = [(v, epoch) for epoch, v in zip(*series, strict=True) if math.isfinite(v)]
    if direction is None or not points:
        return
    sign = 1 if direction == "min" else -1
    value, epoch = min(points, key=lambda point: sign * point[0])
    axes.plot([epoch], [value], "o", color=_VALIDATION, markersize=6, zorder=5)
    axes.annotate(
        f"{value:.4g} in epoch {epoch}",
        (epoch, value),
        xytext=(0, -sign * 14),
        textcoords="offset points",
        ha="right" if epoch > max(series[0]) / 2 else "left",
        va="center",
        color=_VALIDATION,
    )
    axes.margins(y=0.14)  # so that the words stay inside


def _save(figure: Any, path: Path) -> None:
    offered = sorted(figure.canvas.get_supported_filetypes())
    kind = path.suffix[1:].lower()
    if kind not in offered:
        message = f"{path} does not end in the name of a picture format."
        raise ArgumentError(message, fix=f"end it in .png, or in one of: {listed(offered)}")

    def write(file: IO[bytes]) -> None:
        figure.savefig(file, format=kind, dpi=150)

    files.atomic_write(path, write)
