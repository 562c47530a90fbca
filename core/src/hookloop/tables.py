"""Tables in a terminal: columns that line up, and that fit."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, spare: Sequence[int] = (), indent: str = "") -> str:
    """Line up the cells of some rows.

    Args:
        rows: Cells, as many in each row.
        spare: Columns to leave out, one after the other, while the rest is wider than the
            terminal; in a file and in a pipe all of them are there.
        indent: What each line begins with.

    Returns:
        Lines, each without spaces at its end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = list(range(len(widths)))
    for column in spare if sys.stdout.isatty() else ():
        if len(indent) + sum(widths[c] + 2 for c in shown) - 2 > shutil.get_terminal_size().columns:
            shown.remove(column)
    lines = ("  ".join(row[column].ljust(widths[column]) for column in shown) for row in rows)
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)
