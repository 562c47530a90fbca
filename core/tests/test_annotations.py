"""Annotations as text: their alternatives, and which of them mean text."""

from __future__ import annotations

import os
from typing import Any, Literal, Optional, Union

import pytest

from hookloop.annotations import accepts, is_text


@pytest.mark.parametrize(
    ("annotation", "fits", "refused"),
    [
        ("int | None", [1, None], ["1", 1.5]),
        ("typing.Optional[int]", [1, None], ["1", 1.5]),
        ("Literal['a|b', 'c'] | list[int | str]", ["a|b", "c", [1]], ["a", "b", 1]),
        (int, [1], [None, "1"]),
        (Union[int, str], [1, "1"], [None, 1.5]),  # noqa: UP007
        (Literal["a"], ["a"], ["b", None]),
    ],
    ids=str,
)
def test_any_alternative_of_an_annotation_will_do(
    annotation: Any, fits: list[Any], refused: list[Any]
) -> None:
    """As source text and as objects; brackets and quotes hold together."""
    assert [value for value in [*fits, *refused] if accepts(annotation, value)] == fits


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
