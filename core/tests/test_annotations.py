"""Annotations as text: their alternatives, and which of them mean text."""

from __future__ import annotations

import os
from typing import Any, Literal, Optional, Union

import pytest

from hookloop.annotations import accepts, is_text, members


@pytest.mark.parametrize(
    ("annotation", "alternatives"),
    [
        ("int | None", ["int", "None"]),
        ("typing.Optional[int]", ["int", "None"]),
        ("Literal['a|b', 'c'] | list[int | str]", ["Literal['a|b', 'c']", "list[int | str]"]),
        (int, ["int"]),
        (Union[int, str], ["int", "str"]),  # noqa: UP007
        (Literal["a"], ["Literal['a']"]),
    ],
    ids=str,
)
def test_alternatives_of_an_annotation(annotation: Any, alternatives: list[str]) -> None:
    """As source text and as objects; brackets and quotes hold together."""
    assert members(annotation) == alternatives


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("str", True),
        (str, True),
        ("str | None", True),
        (Optional[str], True),  # noqa: UP045
        ("str | os.PathLike[str]", True),
        (str | os.PathLike, True),
        ("pathlib.Path", True),
        ("str | int", False),
        ("None", False),
        ("int", False),
        ("Literal['a']", False),
    ],
    ids=str,
)
def test_which_settings_take_text_as_it_is(annotation: Any, text: bool) -> None:
    """Only those that allow nothing but text and paths, apart from None."""
    assert is_text(annotation) is text


def test_an_object_as_annotation_is_checked_like_its_text() -> None:
    """Modules without postponed annotations have objects there."""
    found = [accepts(Optional[int], value) for value in (3, None, "3", 3.5)]  # noqa: UP045
    assert found == [True, True, False, False]
