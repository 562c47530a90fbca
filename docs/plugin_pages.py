"""Adds to the page of a plugin, which is its README, what its code says: for the site only.

The README's table of settings, written for people, gives way to one from the constructor, with
types; what follows at the end comes from the class: how it is chosen, its hooks and their order.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from hookloop.callback import constructor
from hookloop.describe import Description, Setting, describe

#: A table of settings, as every README of a plugin has one.
TABLE = re.compile(r"^\| setting \|.*\n\|[-|: ]+\n((?:\|.*\n)+)", re.MULTILINE)


def complete(readme: str, name: str) -> str:
    """Give the page of a plugin.

    Args:
        readme: Its README.
        name: The name of the callback, which is that of its folder too.

    Returns:
        The README with the settings from the constructor, and a part that comes from the class.
        That of a package which brings no callback stays as it is.
    """
    if name.startswith("in_"):
        return readme
    return page(readme, describe(name))


def page(readme: str, about: Description) -> str:
    """Write the page of a plugin from its README and what its class says."""
    if not TABLE.search(readme):
        raise ValueError(f"the README of {about.name} has no table of settings")
    settings = settings_table(about)
    text = TABLE.sub(lambda _: f"{settings}\n", readme, count=1)
    return f"{text.rstrip()}\n\n## From the code\n\n{facts(about)}\n"


def written(readme: str) -> dict[str, Any]:
    """Read the table of settings of a README.

    Returns:
        Each setting with its default, None where it has none. Those that are named after hooks
        need no rows: they stand in docs/hooks.md.
    """
    table = TABLE.search(f"{readme}\n")
    rows = [re.split(r"(?<!\\) *\| *", row)[1:-1] for row in table[1].splitlines()] if table else []
    return {
        name: ast.literal_eval(row[-1].strip("`")) if row[-1].startswith("`") else None
        for row in rows
        for name in re.findall(r"`(\w+)`", row[0])
        if not name.startswith("on_")
    }


def real(factory: Callable[..., Any]) -> dict[str, Any]:
    """Tell the settings of a callback's constructor, in the form of `written`."""
    return {
        name: None if one.default is one.empty else one.default
        for name, one in constructor(factory).parameters.items()
        if one.kind is not one.VAR_KEYWORD and not name.startswith("on_")
    }


def settings_table(about: Description) -> str:
    """Write the settings of a callback, in the order of its constructor."""
    rows = [
        f"| `{one.name}`<br>{_code(one.type)} | {_default(one)} | {_text(one.meaning)} |"
        for one in about.settings
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def facts(about: Description) -> str:
    """Say of a callback how it is chosen, what it is and which hooks it has, in their order."""
    hooks = [
        f"[`{hook.name}`](../../docs/hooks.md#{hook.name})" + f" ({hook.order})" * bool(hook.order)
        for hook in about.hooks
    ]
    rows = {
        "By name": f"`{about.by_name}`",
        "Class": f"`{about.object}`, of {about.distribution} {about.version}",
        "If it fails": "training goes on without it" if about.observer else "the run ends with it",
        "Hooks, as a run calls them": ", ".join(hooks) or "those that its settings bring",
    }
    attributes = [f"- `{name}`: {_text(text)}" for name, text in about.attributes.items()]
    lines = [f"- **{what}:** {text}" for what, text in rows.items()]
    return "\n".join([*lines, *["", "Attributes:", "", *attributes] * bool(attributes)])


def _code(text: str) -> str:
    """Put code into a cell, where only the bar needs a backslash."""
    return f"`{text}`".replace("|", r"\|") if text else ""


def _default(setting: Setting) -> str:
    shown = "required" if setting.default is None else _code(setting.default)
    return f"{shown} {_text(setting.unit)}".strip()


def _text(text: str) -> str:
    """Put text into a cell: on one line, with nothing that ends the cell or is a tag."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<")
