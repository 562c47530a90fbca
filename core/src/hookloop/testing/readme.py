"""The check of the README: its examples run, and print what it says."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hookloop import discovery
from hookloop.testing.kit import Check, check, fail
from hookloop.testing.subject import Subject

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
#: With this torch's random numbers begin in every process, so in that of a reader too.
_NEW_PROCESS = 67280421310721


@dataclass(frozen=True)
class Block:
    """A fenced block of python, and what the page says that it prints."""

    line: int
    source: str
    output: str | None
    warns: bool


def blocks(text: str) -> list[Block]:
    """Find the blocks of python in a page; one of output belongs to the one right before it."""
    found = list(_FENCE.finditer(text))
    output = {
        one.start(): following["text"]
        for one, following in itertools.pairwise(found)
        if following["info"].strip() == "output" and not text[one.end() : following.start()].strip()
    }
    return [
        Block(
            text.count("\n", 0, one.start("text")),
            one["text"],
            output.get(one.start()),
            one["info"].split()[1:] == ["warns"],
        )
        for one in found
        if one["info"].split()[:1] == ["python"]
    ]


@check("can_be_made", applies=lambda subject: subject.packaged)
def readme_examples_run(subject: Subject, folder: Path) -> None:
    """The Python blocks of its README run, in order, and print what their `output` blocks say."""
    found = blocks(discovery.readme(subject.plugin.distribution))
    if not found:
        message = "Its README has no block of Python that shows how it is used."
        raise fail(message, fix="add one between ```python and ```, and `readme =` to pyproject")
    torch.manual_seed(_NEW_PROCESS)
    namespace: dict[str, Any] = {"__name__": "__readme__"}
    for block in found:
        printed = _run(block, namespace)
        if block.output is not None and printed != block.output:
            shown = f"The example at line {block.line} of its README prints {printed!r}"
            raise fail(f"{shown}, and not {block.output!r}.", fix="correct the README")


def _run(block: Block, namespace: dict[str, Any]) -> str:
    # The empty lines in front make tracebacks name the README's own lines.
    source = "\n" * block.line + block.source
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as out:
        warnings.simplefilter("ignore" if block.warns else "error")
        try:
            exec(compile(source, "README.md", "exec", dont_inherit=True), namespace)  # noqa: S102
        except Exception as error:
            message = f"The example at line {block.line} of its README fails: "
            message += f"{type(error).__name__}: {error}"
            raise fail(message.partition("\nfix:")[0], fix="correct the README") from error
    return out.getvalue()


CHECKS: tuple[Check, ...] = (readme_examples_run,)
