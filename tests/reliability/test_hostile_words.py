"""What people write: settings, templates, TOML, data, state. A result, or an error of ours."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hookloop
from hookloop import HookloopError, checkpoints, selection, soundness, state
from hookloop.saving import read_frequency
from hookloop.templates import PathTemplate

#: The same examples each time; tests_all has more of them, and others.
EXAMPLES = int(os.environ.get("HOOKLOOP_EXAMPLES", "60"))
seeded = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = ["early_stopping", "history", "csv_logger", "model_checkpoint", "lambda_callback"]
PARTS = [
    *NAMES,
    *":=,;'\"()[]{}/\\ \n\0#+-._%$",
    "patience",
    "monitor",
    "filename",
    "name",
    "mode",
    "3",
    "-1",
    "1e400",
    "nan",
    "inf",
    "0x10",
    "1_0",
    "true",
    "none",
    "'a,b'",
    "[1, 2]",
    "{'a': 1}",
    "__import__('os')",
    "{epoch}",
    "{loss.__class__}",
    "ü",
    "\ud800",
    "🙂",
    "=" * 30,
    "(" * 300,
]
WORDS = st.lists(st.sampled_from(PARTS), max_size=8).map("".join) | st.text(max_size=30)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([b"x", object(), print, {1}, 1j, Path("x"), torch.zeros(2), float, ...])
)
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from([*NAMES, "name"]), inner, max_size=3
        )
        | st.dictionaries(st.integers() | st.none() | st.booleans(), inner, max_size=2)
    ),
    max_leaves=8,
)


def result_or_error(act: Callable[[], Any]) -> Any:
    """Give the result, or None for an error of hookloop's, which ends with what to do."""
    try:
        return act()
    except HookloopError as error:
        if "\nfix: " not in str(error):
            raise AssertionError("no fix") from error
        return None


@pytest.mark.reliability("G6", "G10")
@given(WORDS)
@seeded
def test_any_text_is_a_choice_or_an_error(text: str) -> None:
    """As a whole choice, and as the settings of a real one."""
    result_or_error(lambda: selection.parse(text))
    for choice in (f"early_stopping:{text}", f"history:{text}", f"csv_logger:filename={text}"):
        result_or_error(lambda choice=choice: hookloop.load_callbacks(choice))


@pytest.mark.reliability("G6", "G10")
@given(DATA)
@seeded
def test_any_data_are_a_choice_or_an_error(items: Any) -> None:
    """As JSON or TOML give them, and as nothing gives them."""
    result_or_error(lambda: hookloop.load_callbacks(items))
    for name in NAMES:
        result_or_error(lambda name=name: hookloop.load_callbacks([{name: items}, (name, items)]))


@pytest.mark.reliability("G10")
@given(
    st.lists(
        st.sampled_from(
            [
                "[[callbacks]]",
                "[callbacks]",
                'name = "history"',
                "name = 3",
                "patience = nan",
                "callbacks = []",
                'callbacks = ["history"]',
                "a.b = 1",
                "[[callbacks.x]]",
                "\0",
                "é",
                'name = "early_stopping"',
                "d = 1979-05-27",
                "= 1",
                '"" = 1',
                "[[",
                "x = [[[[[[[[[",
            ]
        ),
        max_size=6,
    ).map("\n".join)
    | st.text(max_size=40)
)
@seeded
def test_any_file_of_toml_is_a_choice_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Through the options of a script, which is where such a file is named."""
    path = tmp_path_factory.getbasetemp() / "choices.toml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    parser = argparse.ArgumentParser()
    hookloop.add_arguments(parser)
    asked = parser.parse_args(["--callbacks-from", str(path)])
    result_or_error(lambda: hookloop.load_callbacks(hookloop.from_arguments(asked)))


LEADING_OUT = st.sampled_from(["{loss}", "a/{loss}/m.pt", "x{loss}{epoch}.pt"])
FIELDS = (
    LEADING_OUT
    | st.lists(
        st.sampled_from(
            [
                "{",
                "}",
                "{{",
                "}}",
                "{epoch}",
                "{loss}",
                "{val/loss}",
                "{loss:.2f}",
                "{loss!r}",
                "{0}",
                "{loss.real}",
                "{loss[0]}",
                "{epoch:{loss}}",
                "{epoch:>9999999999}",
                "{epoch:zz}",
                "..",
                "/",
                "~",
                "a",
                ".pt",
                "\0",
                "\n",
                "{}",
                "{ loss }",
                "{__class__}",
                "x" * 300,
                "{epoch:c}",
            ]
        ),
        max_size=6,
    ).map("".join)
    | st.text(max_size=20)
)
VALUES = (
    st.floats()
    | st.integers()
    | st.text(max_size=20)
    | st.none()
    | st.sampled_from(["../../etc/x", "/etc/x", ".."])
)


@pytest.mark.reliability("G2", "G3")
@given(FIELDS, VALUES, VALUES)
@seeded
def test_any_template_stays_in_its_folder_or_is_an_error(text: str, loss: Any, other: Any) -> None:
    """Whatever the metrics are called and hold, as many folders down as it is written."""
    template = result_or_error(lambda: PathTemplate(text))
    if template is None:
        return
    values = {"epoch": 3, "loss": loss, "val/loss": other, "../x": other, "a\nb": other}
    path = template.format(values, lambda said: None)
    literal = "".join(part for part, *_ in template._parts)
    assert path.count("/") == literal.count("/")
    assert path.split("/").count("..") <= literal.split("/").count("..")
    assert "\0" not in path
    assert template.gives(path)


@pytest.mark.reliability("G3")
@given(st.text(max_size=20) | st.sampled_from(["a/b", "../x", "a{b", "a\nb", "", ".", "top-5"]))
@seeded
def test_any_name_of_a_metric_is_a_field_or_an_error(name: str) -> None:
    """What a metric is called never becomes a part of a path by itself."""
    template = result_or_error(lambda: PathTemplate(f"runs/{{{name}}}.pt"))
    if template is not None:
        path = template.format({name: 0.5}, lambda said: None)
        assert path in ("runs/0.5.pt", "runs/na.pt", f"runs/{{{name}}}.pt"[:-4] + "}.pt") or (
            path.startswith("runs/") and path.count("/") == 1
        )


@pytest.mark.reliability("G2")
@pytest.mark.parametrize(
    "template",
    ["{nope:zz}", "{epoch:d", "a\0b", "", "{0}", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:{b}}"],
)
def test_a_template_that_cannot_be_formatted_is_refused_when_it_is_made(template: str) -> None:
    """With the template, before anything is trained; ``..`` and absolute paths are the user's."""
    with pytest.raises(HookloopError) as caught:
        hookloop.load("model_checkpoint", filepath=template)
    assert repr(template) in str(caught.value)


@pytest.mark.reliability("G2")
def test_a_name_that_is_too_long_is_refused_before_training(tmp_path: Path) -> None:
    """Of 300 characters, with the path in the sentence."""
    x = torch.zeros(4, 1)
    trainer = hookloop.Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd")
    path = tmp_path / ("x" * 300 + ".pt")
    with pytest.raises(HookloopError, match=r"xxx\.pt cannot be written: File name too long"):
        trainer.fit((x, x), verbose=0, callbacks=[{"model_checkpoint": {"filepath": path}}])
    assert list(tmp_path.iterdir()) == []


LONG = "9" * 400


@given(
    WORDS
    | st.integers()
    | st.floats()
    | st.sampled_from(["1e9 steps", "٣ steps", "1 h", f"{LONG} s", f"{LONG} steps"])
)
@seeded
def test_any_frequency_is_a_positive_number_of_something_or_an_error(words: Any) -> None:
    """Of epochs, batches, steps or seconds."""
    found = result_or_error(lambda: read_frequency(words, who="saver"))
    if found is not None:
        assert found[1] in ("epochs", "batches", "steps", "seconds")
        assert 0 < found[0] < math.inf


@given(DATA)
@seeded
def test_any_state_of_a_callback_comes_back_or_is_an_error(held: Any) -> None:
    """In JSON as in a file; what cannot be saved is refused when it is saved."""
    saved = result_or_error(lambda: checkpoints.as_json({"held": held}))
    if saved is not None:
        checkpoints.from_json(saved)


@given(st.dictionaries(st.sampled_from([*state.SECTIONS, "format", "version"]), DATA) | DATA)
@seeded
def test_any_data_in_the_place_of_a_state_are_refused(saved: Any) -> None:
    """Whole or in parts; none is taken for a state."""
    whole = {**dict.fromkeys(state.SECTIONS), "format": state.FORMAT, "version": 1}
    for one in (saved, {**whole, **saved} if isinstance(saved, dict) else whole):

        def check(one: Any = one) -> None:
            state.check_format(one)
            soundness.check_own(one)
            soundness.check_shape(one)

        with pytest.raises(HookloopError):
            check()
