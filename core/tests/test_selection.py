"""Choosing callbacks: every form of an item, and every form of a setting."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hookloop
from hookloop import Callback, CallbackList, History, HookloopError
from hookloop.errors import SelectionError, SettingError
from hookloop.selection import Bare, as_items, load_callbacks, named, parse

HERE = __name__


class Ema(Callback):
    """A callback with settings of several kinds."""

    def __init__(
        self,
        decay: float = 0.9,
        every: int = 1,
        path: str = "",
        where: str | None = None,
        on: bool = True,
        layers: list[str] | None = None,
        anything=None,  # type: ignore[no-untyped-def]
    ) -> None:
        self.decay, self.every, self.path, self.where = decay, every, path, where
        self.on, self.layers, self.anything = on, layers, anything


def calls(function: Callable[..., Any] | None = None) -> Callback:
    return Callback()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under a name that a reference can spell."""
    import sys

    monkeypatch.setitem(sys.modules, "mine", sys.modules[HERE])


def value_of(text: str, setting: str) -> Any:
    return getattr(hookloop.load(f"mine:Ema:{setting}={text}"), setting)


BARE = [
    ("decay", "0.5", 0.5),
    ("decay", "1", 1),
    ("decay", "1e-3", 0.001),
    ("decay", "-.5", -0.5),
    ("decay", "inf", float("inf")),
    ("decay", "-Inf", float("-inf")),
    ("every", "3", 3),
    ("every", "+3", 3),
    ("every", "-3", -3),
    ("on", "true", True),
    ("on", "FALSE", False),
    ("layers", "none", None),
    ("anything", "None", None),
    ("anything", "tRue", True),
    ("anything", "12", 12),
    ("anything", "1.5", 1.5),
    ("anything", "2026_01_02", "2026_01_02"),
    ("anything", "0x10", "0x10"),
    ("anything", "1.2.3", "1.2.3"),
    ("anything", "word", "word"),
    ("anything", "", ""),
    ("anything", "9" * 5000, "9" * 5000),
    ("path", "2026_01_02", "2026_01_02"),
    ("path", "12", "12"),
    ("path", "true", "true"),
    ("path", "none", "none"),
    ("path", "007", "007"),
    ("where", "none", None),
    ("where", "12", "12"),
    ("path", r"c:\x\new.csv", r"c:\x\new.csv"),
    ("path", "https://host:80/a?b=c&d=e#f", "https://host:80/a?b=c&d=e#f"),
    ("path", "it's.csv", "it's.csv"),
    ("path", "f={epoch:02d}.pt", "f={epoch:02d}.pt"),
    ("path", "{epoch:02d}.pt", "{epoch:02d}.pt"),
    ("path", "{epoch:02d}-{val_loss:.2f}.pt", "{epoch:02d}-{val_loss:.2f}.pt"),
    ("path", "a b", "a b"),
    ("path", "(unclosed", "(unclosed"),
    ("path", "[1, 2](x", "[1, 2](x"),
    ("path", "naïve-Ω.csv", "naïve-Ω.csv"),
    ("anything", "{[]: 1}", "{[]: 1}"),
    ("anything", "+-+inf", "+-+inf"),
]


@pytest.mark.parametrize(
    ("setting", "text", "value"), BARE, ids=[f"{s}={t[:24]!r}" for s, t, _ in BARE]
)
def test_a_bare_value(setting: str, text: str, value: Any) -> None:
    """Text for text settings; else true, false, none, a number, or the text."""
    found = value_of(text, setting)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("tail", ["", ",every=2"], ids=["last", "followed"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a,b.csv'", "a,b.csv"),
        ("'it''s.csv'", "it's.csv"),
        ("''", ""),
        ("''''", "'"),
        (r"'c:\new'", r"c:\new"),
        ("'x=1,y=2'", "x=1,y=2"),
        ("'12'", "12"),
        ("'true'", "true"),
        ("[1, 2]", [1, 2]),
        ("(1, (2, 3))", (1, (2, 3))),
        ("['a,b', \"c]d\"]", ["a,b", "c]d"]),
        ("{'a': [1], 'b': None}", {"a": [1], "b": None}),
        ("{'a', 'b'}", {"a", "b"}),
        ("()", ()),
        ("[x, y]", "[x, y]"),
        ("{epoch:02d},", "{epoch:02d}"),
    ],
)
def test_a_quoted_or_bracketed_value(text: str, value: Any, tail: str) -> None:
    """Quotes take anything, doubled inside; brackets a Python literal, or else the text."""
    callback = hookloop.load(f"mine:Ema:anything={text.rstrip(',')}{tail}")
    assert callback.anything == value
    assert callback.every == (2 if tail else 1)


FORMS: dict[str, Any] = {
    "string": "mine:Ema:every=3,path=x",
    "string with spaces": "mine:Ema:every=3, path=x",
    "mapping": {"mine:Ema": {"every": 3, "path": "x"}},
    "pair": ("mine:Ema", {"every": 3, "path": "x"}),
    "instance": Ema(every=3, path="x"),
    "list": ["mine:Ema:every=3,path=x"],
    "tuple": ("mine:Ema:every=3,path=x",),
}


@pytest.mark.parametrize("item", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_callback(item: Any) -> None:
    """Name with settings, mapping, pair, instance, and a list of these."""
    assert [(c.every, c.path) for c in load_callbacks(item)] == [(3, "x")]


def test_a_callback_list_counts_as_its_callbacks() -> None:
    """Passed where callbacks are accepted, it is unpacked."""
    one = Ema()
    assert load_callbacks(CallbackList([one], model=None)) == [one]


def test_several_keys_of_a_mapping_are_several_callbacks_in_order() -> None:
    """As they come from YAML or JSON; no settings may be written as null."""
    items = {"mine:Ema": {"every": 2}, "history": None}
    assert [type(c) for c in load_callbacks(items)] == [Ema, History]


def test_a_tuple_of_two_names_is_a_list() -> None:
    """Only a name with a mapping is a pair."""
    assert [type(c) for c in load_callbacks(("history", "mine:Ema"))] == [History, Ema]


@pytest.mark.parametrize("spelling", ["base_logger", "base-logger", "BaseLogger", "Base.Logger"])
def test_names_compare_without_case_and_separators(spelling: str) -> None:
    """One name in all its spellings, also with its owner in front."""
    names = [hookloop.load(name) for name in (spelling, f"hookloop/{spelling}")]
    assert [type(callback).__name__ for callback in names] == ["BaseLogger", "BaseLogger"]


def test_as_items_takes_mappings_apart_without_loading() -> None:
    """What is merged and removed by name are single callbacks."""
    assert as_items([{"a": {"k": 1}, "b": None}, "c"]) == [("a", {"k": 1}), ("b", {}), "c"]


# -- names of instances ---------------------------------------------------------------


class TerminateOnNaN(Callback): ...


class CSVLogger2(Callback): ...


class Own(Callback):
    name = "its own"


NAMES = [
    (History, "history"),
    (Ema, "ema"),
    (CSVLogger2, "csv_logger2"),
    (Own, "its own"),
    (lambda: hookloop.load("mine:Ema:name=slow"), "slow"),
    (lambda: hookloop.load("mine:Ema", name="slow"), "slow"),
    (lambda: load_callbacks({"mine:Ema": {"name": "slow"}})[0], "slow"),
    (lambda: load_callbacks(("mine:Ema", {"name": "slow"}))[0], "slow"),
    (lambda: hookloop.load("mine:Ema:name=3"), "3"),
]


@pytest.mark.parametrize(("make", "name"), NAMES, ids=[name for _, name in NAMES])
def test_an_instance_s_name(make: Any, name: str) -> None:
    """The entry point's, else the class in snake case, unless ``name`` says otherwise."""
    assert [found for found, _ in named([make()])] == [name]


def test_equal_names_are_numbered_in_list_order() -> None:
    """Every name is a key, whatever an instance calls itself."""
    numbered, own = Ema(), Ema()
    own.name = "ema#2"
    items = [Ema(), own, numbered, Ema(), History()]
    assert [name for name, _ in named(items)] == ["ema", "ema#2", "ema#3", "ema#4", "history"]


# -- what cannot be read ---------------------------------------------------------------


WRONG = [
    (
        "mine:Ema:path=a,b.csv",
        "'mine:Ema:path=a,b.csv': 'b.csv' is no setting."
        "\nfix: write name=value, and quote a value that holds a comma: filename='a,b.csv'",
    ),
    (
        "mine:Ema:path='a",
        '"mine:Ema:path=\'a": a quote does not end.'
        "\nfix: end it with ', and write a quote inside as ''",
    ),
    (
        "history:3",
        "'history:3': '3' is no setting."
        '\nfix: settings are written name=value, as in "history:name=value"',
    ),
    (
        "history:patience",
        "'history:patience': 'patience' is no setting."
        '\nfix: settings are written name=value, as in "history:name=value"',
    ),
    (
        "mine:Ema every=2",
        "'mine:Ema every=2': a colon comes before the settings.\nfix: write \"mine:Ema:every=2\"",
    ),
    (
        "history(every=2)",
        "'history(every=2)': a colon comes before the settings.\nfix: write \"history:every=2\"",
    ),
    (
        "history: every=2",
        "'history: every=2': a colon comes before the settings.\nfix: write \"history:every=2\"",
    ),
    (
        "early_stopping:restore-best=true",
        "'early_stopping:restore-best=true': no setting has a hyphen in its name."
        '\nfix: write "restore_best="',
    ),
    (
        "mine:Ema:every=2;path=x",
        "Ema: every='2;path=x' is a str, not int."
        '\nfix: put commas between settings: "Ema:every=...,..."',
    ),
    (
        "mine:Ema:on=yes",
        "Ema: on='yes' is a str, not bool.\nfix: write on=true or on=false",
    ),
    (
        "mine:calls:function=print",
        "calls: function='print' is a str, not Callable[..., Any] | None."
        '\nfix: a function cannot be written in a string: ("calls", {"function": function})',
    ),
    ("", "'' names no callback.\nfix: write it as \"early_stopping:patience=3\""),
    (":a=1", "':a=1' names no callback.\nfix: write it as \"early_stopping:patience=3\""),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[repr(text) for text, _ in WRONG])
def test_a_string_that_cannot_be_read_says_what_to_write(text: str, message: str) -> None:
    """Never half of it taken, and never a traceback from a parser."""
    with pytest.raises(HookloopError) as caught:
        hookloop.load(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("annotation", "given", "fits"),
    [
        ("int", 3, True),
        ("int", True, False),
        ("int", 3.0, False),
        ("float", 3, True),
        ("float", "3", False),
        ("bool", 1, False),
        ("int | None", None, True),
        ("Optional[int]", "x", False),
        ("Union[int, str, NoneType]", None, True),
        ("Union[int, str, NoneType]", 2.5, False),
        ("typing.Union[int, str]", "x", True),
        ("Literal['a', 'b|c']", "b|c", True),
        ("Literal['a', 'b']", "c", False),
        ("Literal[1]", True, False),
        ("Literal[Color.RED]", "c", True),
        ("str | os.PathLike[str]", 3, False),
        ("Callable[[int, int], float]", 3, False),
        ("Callable[[int, int], float]", max, True),
        ("list[str]", ["a"], True),
        ("Sequence[str]", "abc", False),
        ("dict[str, int]", {"a": 1}, True),
        ("Tensor", 3, True),
        ("SomethingElse[int]", "whatever", True),
    ],
)
def test_a_setting_is_checked_against_its_annotation(
    annotation: str, given: Any, fits: bool
) -> None:
    """What is not understood is let through."""

    def make(it: Any = 0) -> Callback:
        return Callback()

    make.__annotations__["it"] = annotation
    module = __import__("sys").modules["mine"]
    module.make = make  # type: ignore[attr-defined]
    if fits:
        assert isinstance(hookloop.load("mine:make", it=given), Callback)
    else:
        with pytest.raises(
            SettingError, match=rf"make: it=.* not {re.escape(annotation)}\.\nfix: "
        ):
            hookloop.load("mine:make", it=given)


PIECES = st.sampled_from(
    "early_stopping history mine:Ema : , = ' '' \" ( ) [ ] { } / + - . # ; path= every= decay= on= "
    "layers= anything= name= 1 2.5 1e9 inf nan none true \\ \n \0 é 𝟛 _ a".split(" ")
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("mine:Ema:decay=+-inf")
@example("mine:Ema:anything={[]:1}")
@example("mine:Ema:every=" + "9" * 6000)
@example("builtins:dict")
@example("builtins:int")
@example("builtins:iter")
@example("mine:PIECES")
def test_no_string_gives_anything_but_a_callback_or_an_error_of_ours(text: str) -> None:
    """Whatever somebody types, what comes back is a callback, or an error with a ``fix:``."""
    try:
        parse(text)
        callback = hookloop.load(text)
    except HookloopError as error:
        assert "\nfix: " in str(error)  # noqa: PT017
    else:
        assert isinstance(callback, Callback)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_can_be_quoted(text: str) -> None:
    """Quotes take every text, whatever is in it."""
    quoted = "'" + text.replace("'", "''") + "'"
    assert parse(f"x:path={quoted},every=2") == ("x", {"path": text, "every": Bare("2")})


def test_a_setting_that_is_written_twice_is_refused() -> None:
    """Nobody knows which of them was meant."""
    with pytest.raises(SelectionError) as refused:
        parse("early_stopping:patience=3,patience=4")
    assert str(refused.value) == (
        "'early_stopping:patience=3,patience=4' sets patience twice.\nfix: leave one of them out"
    )


def test_a_space_before_a_quoted_value_is_passed_over() -> None:
    """The quotes are still quotes."""
    assert parse("a:b= 'q, r',c=1") == ("a", {"b": "q, r", "c": "1"})


@pytest.mark.reliability("G10")
def test_one_instance_twice_in_a_list_is_refused() -> None:
    """A logger would write every row twice."""
    history = History()
    with pytest.raises(SelectionError) as refused:
        named([history, history])
    assert str(refused.value) == (
        "One History stands twice in the list of callbacks.\n"
        "fix: leave one out, or make a second instance"
    )
