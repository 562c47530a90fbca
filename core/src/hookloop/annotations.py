"""Checking settings against annotations, as text: nothing has to be imported to resolve them."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

_TEXT = {"str", "PathLike", "Path", "StrPath"}
_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("None", "NoneType"), lambda value: value is None),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "PathLike": lambda value: isinstance(value, os.PathLike),
    "Path": lambda value: isinstance(value, os.PathLike),
    "Callable": callable,
    **dict.fromkeys(
        ("list", "tuple", "Sequence", "Iterable", "Collection", "set"),
        lambda value: isinstance(value, Collection) and not isinstance(value, str | Mapping),
    ),
    **dict.fromkeys(("dict", "Mapping"), lambda value: isinstance(value, Mapping)),
}


def accepts(annotation: Any, value: Any) -> bool:
    """Tell whether a value fits an annotation; True where the annotation is not understood.

    Args:
        annotation: A type, or its source text.
        value: What was given.
    """
    return any(_fits(name, inner, value) for name, inner in _members(annotation))


def is_text(annotation: Any) -> bool:
    """Tell whether an annotation allows nothing but text and paths, apart from None."""
    names = {name for name, _ in _members(annotation)} - {"None", "NoneType"}
    return bool(names) and names <= _TEXT


def _fits(name: str, inner: str, value: Any) -> bool:
    if name == "Literal":
        try:
            allowed = ast.literal_eval(f"({inner},)")
        except (ValueError, SyntaxError):  # members of an enumeration
            return True
        return any(value == one and type(value) is type(one) for one in allowed)
    return _KINDS.get(name, lambda _: True)(value)


def _members(annotation: Any) -> list[tuple[str, str]]:
    """Split an annotation into pairs of a type's last name and what its brackets hold."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    found = []
    for part in _split(text, "|"):
        head, _, inner = part.strip().partition("[")
        name, inner = head.rpartition(".")[2], inner[:-1]
        if name in ("Optional", "Union"):
            found += [pair for one in _split(inner, ",") for pair in _members(one.strip())]
            found += [("None", "")] if name == "Optional" else []
        else:
            found.append((name, inner))
    return found


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside of brackets and quotes."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character in "'\""
        depth += 0 if quoted else (character in "[(") - (character in "])")
        if character == separator and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts
