"""Draws what the benchmarks have found into docs/pictures: from the JSON, so the same every time.

make bench-page
"""

from __future__ import annotations

import json
from typing import Any

from harness import RESULTS

FOLDER = RESULTS.parents[1] / "docs" / "pictures"
#: Rows that are drawn, each with what stands beside its bars.
DRAWN = {
    "step, tiny, no callbacks": "a step, no callbacks",
    "step, tiny, realistic": "a step, realistic callbacks",
    "epochs of 5 steps, tiny, realistic": "epochs of 5 steps, realistic callbacks",
}
OURS, OTHERS = "#2a6f97", "#b8c4cc"


def read(what: str) -> dict[str, Any]:
    """Read a result."""
    found: dict[str, Any] = json.loads((RESULTS / f"{what}.json").read_text(encoding="utf-8"))
    return found


def start() -> Any:
    """Set matplotlib up so that the same figures make the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "hookloop", "svg.fonttype": "none"})
    matplotlib.rcParams.update({"font.size": 9, "font.family": "sans-serif"})
    import matplotlib.pyplot as plt

    return plt


def peers(found: dict[str, Any]) -> Any:
    """Draw some rows of the comparison as bars: how many times the loop by hand."""
    plt = start()
    figure, panels = plt.subplots(1, len(DRAWN), figsize=(10, 2.8), layout="constrained")
    for panel, (row, title) in zip(panels, DRAWN.items(), strict=True):
        values = {k: v for k, v in found["figures"][row].items() if k != "by hand"}
        names = list(values)[::-1]
        colors = [OURS if name == "hookloop" else OTHERS for name in names]
        bars = panel.barh(names, [values[name] for name in names], color=colors)
        panel.bar_label(bars, fmt="%.2f", padding=2)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.set_xlim(0, max(values.values()) * 1.18)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("times as long as the loop by hand", fontsize=9)
    return figure


def growth(found: dict[str, Any]) -> Any:
    """Draw each series over its sizes, both by their logarithms, with its order."""
    plt = start()
    series = found["figures"]
    columns = 4
    rows = -(-len(series) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(11, 2.7 * rows), layout="constrained", squeeze=False
    )
    for panel, (name, one) in zip(panels.flat, series.items(), strict=False):
        panel.loglog(one["sizes"], one["costs"], "o-", color=OURS, markersize=3)
        panel.set_title(f"{wrapped(name)}\norder {one['order']:.2f}", fontsize=8)
        panel.set_ylabel(one["unit"], fontsize=8)
        low, high = min(one["costs"]), max(one["costs"])
        panel.set_ylim(low / 3, high * 3)  # so that what is flat looks flat
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.flat)[len(series) :]:
        panel.set_visible(False)
    return figure


def wrapped(text: str) -> str:
    """Break a title in two."""
    import textwrap

    return "\n".join(textwrap.wrap(text, 34))


def main() -> None:
    for name, draw in (("peers", peers), ("growth", growth)):
        path = FOLDER / f"performance-{name}.svg"
        draw(read(name)).savefig(path, metadata={"Date": None})
        print(f"drawn: {path} ({path.stat().st_size // 1000} kB)")


if __name__ == "__main__":
    main()
