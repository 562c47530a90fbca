"""Path templates: checked when they are made, filled in without leaving the folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookloop.errors import TemplateError
from hookloop.templates import PathTemplate


def filled(template: str, **values: Any) -> str:
    said: list[str] = []
    path = PathTemplate(template).format(values, said.append)
    assert said == []
    return path


@pytest.mark.parametrize(
    ("template", "values", "path"),
    [
        ("model.pt", {}, "model.pt"),
        (
            "m.{epoch:02d}-{val_loss:.2f}.pt",
            {"epoch": 3, "val_loss": 0.456, "x": 1},
            "m.03-0.46.pt",
        ),
        ("{epoch}/{batch}/{step}.pt", {"epoch": 1, "batch": 2, "step": 3}, "1/2/3.pt"),
        ("{{literal}}-{epoch}.pt", {"epoch": 1}, "{literal}-1.pt"),
        ("{loss:8.3f}.pt", {"loss": 0.5}, "___0.500.pt"),
        ("{loss:+.1e}.pt", {"loss": -0.05}, "-5.0e-02.pt"),
        ("{loss}.pt", {"loss": math.nan}, "nan.pt"),
        ("{top-5}.pt", {"top-5": 0.5}, "0.5.pt"),
        ("{loss:.2f}.pt", {"loss": "text"}, "text.pt"),
        ("a/{tag}/m.pt", {"tag": "../../etc"}, "a/__.._etc/m.pt"),
        ("a/{tag}/m.pt", {"tag": ".."}, "a/_/m.pt"),
        ("a/{tag}/m.pt", {"tag": "/etc/passwd"}, "a/_etc_passwd/m.pt"),
        ("a/{tag}/m.pt", {"tag": r"c:\x"}, "a/c__x/m.pt"),
        ("{tag}/m.pt", {"tag": ""}, "_/m.pt"),
        ("{tag}", {"tag": "a\0b\nc"}, "a_b_c"),
    ],
)
@pytest.mark.reliability("G2", "G3")
def test_a_template_is_filled_in(template: str, values: dict[str, Any], path: str) -> None:
    """Plain names with a format spec; what a value brings along is escaped."""
    assert filled(template, **values) == path


@given(st.text(), st.sampled_from(["{v}", "{v}/m.pt", "a/{v}/m.pt", "a/x{v}.pt", "a/{v}{v}/m"]))
@pytest.mark.reliability("G3")
def test_no_value_can_leave_the_folder(value: str, template: str) -> None:
    """Whatever is logged, the path is below the folder that was named, and no deeper."""
    path = filled(f"/runs/{template}", v=value)
    assert os.path.normpath(path) == path
    assert path.startswith("/runs/")
    assert path.count("/") == template.count("/") + 2


def test_a_missing_value_becomes_na_and_is_said() -> None:
    """With what was reported instead."""
    said: list[str] = []
    path = PathTemplate("m-{val_loss:.2f}.pt").format({"loss": 1.0, "epoch": 1}, said.append)
    assert path == "m-na.pt"
    assert said == [
        "'m-{val_loss:.2f}.pt': val_loss was not reported and is written as 'na'; "
        "reported: loss, epoch.\nfix: use one of these in the path"
    ]


BRACES = "close every brace, and write {{ for a brace"
PLAIN = "write {name} or {name:.2f}"
SPEC = "write {epoch:02d} for a counter, {val_loss:.2f} for a number"


@pytest.mark.parametrize(
    ("template", "fix"),
    [
        ("{epoch", BRACES),
        ("epoch}", BRACES),
        ("{", BRACES),
        ("{}", PLAIN),
        ("{0}", PLAIN),
        ("{a.b}", PLAIN),
        ("{a[0]}", PLAIN),
        ("{a.__class__}", PLAIN),
        ("{a!r}", PLAIN),
        ("{a:{b}}", PLAIN),
        ("{epoch:.2q}", SPEC),
        ("{val_loss:02d}", SPEC),
        ("{val_loss:s}", SPEC),
        ("", "name a file"),
        ("a\0b", "name a file"),
    ],
)
def test_a_template_that_could_never_be_formatted_is_refused_when_it_is_made(
    template: str, fix: str
) -> None:
    """Not after a night of training."""
    with pytest.raises(TemplateError) as caught:
        PathTemplate(template)
    assert str(caught.value).splitlines()[-1] == f"fix: {fix}"


@pytest.mark.parametrize(
    ("template", "meant"),
    [
        ("m.{epch:02d}.pt", "'epch'. Did you mean 'epoch'?"),
        ("{steps:d}", "'steps'. Did you mean 'step'?"),
    ],
)
def test_a_misspelt_counter_is_refused_by_its_name(template: str, meant: str) -> None:
    """Not for a format that is right for the counter that was meant."""
    with pytest.raises(TemplateError) as caught:
        PathTemplate(template)
    assert str(caught.value) == (
        f"The path template {template!r} cannot be formatted: no counter is called {meant}\n"
        f"fix: {SPEC}"
    )


def test_a_misspelt_counter_without_a_format_may_be_a_metric() -> None:
    """It is told of when the run starts, and it is known what is reported."""
    assert PathTemplate("{epch}.pt").unknown(["loss"]) == ["'epch'. Did you mean 'epoch'?"]


def test_a_path_object_is_a_template_too() -> None:
    """``PathLike`` is accepted wherever text is."""
    template = PathTemplate(Path("runs") / "{epoch}.pt")
    assert (template.fields, template.text) == ({"epoch"}, "runs/{epoch}.pt")


def test_unknown_names_are_told_with_what_is_near() -> None:
    """When the run starts, a host knows what will be reported."""
    template = PathTemplate("{epoch}-{batch}-{step}-{val_los}-{other}.pt")
    assert template.unknown(["val_loss", "loss"]) == [
        "'other'.",
        "'val_los'. Did you mean 'val_loss'?",
    ]
