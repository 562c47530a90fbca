"""Callbacks from outside of a script: options, a file, the environment, and who wins."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

import hookloop
from hookloop import History
from hookloop.arguments import merge, outermost, with_environment
from hookloop.errors import SelectionError

FILE = """
[[callbacks]]
name = "csv_logger"
filename = "file.csv"

[[callbacks]]
name = "+history"
"""


def chosen(*words: str, default: Any = ()) -> list[Any]:
    parser = argparse.ArgumentParser()
    hookloop.add_arguments(parser)
    return hookloop.from_arguments(parser.parse_args(words), default=default)


def test_without_options_the_defaults_stand() -> None:
    """A script's own list passes through, whatever the form of its items."""
    own = History()
    assert chosen(default=["a:k=1", {"b": {"k": 2}}, ("c", {}), own]) == [
        "a:k=1",
        ("b", {"k": 2}),
        ("c", {}),
        own,
    ]


@pytest.mark.parametrize(
    "default",
    [
        "early_stopping:patience=1",
        {"early_stopping": {}},
        ("EarlyStopping", {}),
        "x/early-stopping",
    ],
    ids=str,
)
def test_the_same_name_replaces_in_its_place(default: Any) -> None:
    """In whatever form the default was written."""
    found = chosen("--callback", "early_stopping:patience=9", default=["a", default, "z"])
    assert found == ["a", "early_stopping:patience=9", "z"]


def test_an_instance_is_replaced_by_its_name() -> None:
    """Also a default that is already made."""
    assert chosen("--callback", "history", default=[History(), "a"]) == ["history", "a"]


def test_a_plus_adds_a_second_one() -> None:
    """``+name`` stands beside the first, at the end."""
    found = chosen("--callback", "+csv_logger:filename=b.csv", default=["csv_logger", "a"])
    assert found == ["csv_logger", "a", "csv_logger:filename=b.csv"]


def test_later_sources_win_and_removals_come_last(tmp_path: Path) -> None:
    """Defaults, file, ``--callback``; then ``--no-callback``."""
    file = tmp_path / "callbacks.toml"
    file.write_text(FILE)
    words = ["--callbacks-from", str(file), "--callback", "early_stopping", "--no-callback", "bar"]
    default = ["csv_logger:filename=default.csv", "history", "bar", "early_stopping:patience=1"]
    assert chosen(*words, default=default) == [
        ("csv_logger", {"filename": "file.csv"}),
        "history",
        "early_stopping",
        ("history", {}),
    ]


def test_a_callback_may_be_added_and_removed_again() -> None:
    """Removals come after everything that was added."""
    assert chosen("--no-callback", "Early-Stopping", "--callback", "early_stopping") == []


def test_removing_what_is_not_there_is_an_error() -> None:
    """It says what is there."""
    with pytest.raises(SelectionError) as caught:
        chosen("--no-callback", "csv_loger", default=["csv_logger", ("history", {})])
    assert str(caught.value) == (
        "--no-callback csv_loger: there is no such callback to leave out; there are: csv_logger, "
        "history.\nfix: name one of these"
    )


def test_the_help_says_that_a_callback_is_replaced_with_its_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever changes one setting has to write the others again."""
    with pytest.raises(SystemExit):
        chosen("--help")
    assert (
        "use this callback; one of the same name is replaced as a whole, its settings too; "
        "+NAME adds a second one" in " ".join(capsys.readouterr().out.split())
    )


TABLES = 'fix: write [[callbacks]] tables: name = "early_stopping", and its settings'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[[callbacks", "cannot be read: "),
        ("callbacks = 3", "`callbacks` is no list of tables."),
        ("callbacks = ['a']", "`callbacks` is no list of tables."),
        ("[[callbacks]]\npatience = 3", "a table of `callbacks` has no name."),
    ],
    ids=["no TOML", "number", "strings", "nameless"],
)
def test_a_file_that_cannot_be_read_says_how_to_write_one(
    tmp_path: Path, content: str, text: str
) -> None:
    """Never a traceback from the TOML reader."""
    file = tmp_path / "callbacks.toml"
    file.write_text(content)
    with pytest.raises(SelectionError) as caught:
        chosen("--callbacks-from", str(file))
    assert text in str(caught.value)
    assert str(caught.value).splitlines()[-1] == TABLES


def test_a_file_that_is_not_there_is_said_to_be_so() -> None:
    """How it would be written is not what its user has to know."""
    with pytest.raises(SelectionError) as caught:
        chosen("--callbacks-from", "calbacks.toml")
    assert str(caught.value) == "There is no file calbacks.toml.\nfix: correct the path"


def test_an_empty_file_adds_nothing(tmp_path: Path) -> None:
    """No tables are no callbacks."""
    file = tmp_path / "callbacks.toml"
    file.write_text("")
    assert chosen("--callbacks-from", str(file), default="a") == ["a"]


# -- environment ---------------------------------------------------------------


def test_the_environment_adds_and_removes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It wins over everything in the script."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "early_stopping:patience=5; +history ;")
    monkeypatch.setenv("HOOKLOOP_DISABLE", "csv_logger")
    assert with_environment(["csv_logger", "early_stopping:patience=1", "history"]) == (
        ["early_stopping:patience=5", "history", "history"],
        "HOOKLOOP_CALLBACKS adds +history; HOOKLOOP_CALLBACKS replaces the run's own by "
        "early_stopping:patience=5; HOOKLOOP_DISABLE removes csv_logger",
    )


def test_an_error_in_the_environment_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for a typo in a script that has none."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "histori")
    with pytest.raises(SelectionError) as refused:
        with_environment([])
    assert str(refused.value).startswith(
        "The environment variable HOOKLOOP_CALLBACKS asks for 'histori'. No callback 'histori' is "
        "installed. Did you mean 'history'?"
    )


def test_a_file_of_other_tables_is_refused(tmp_path: Path) -> None:
    """[[callback]] in place of [[callbacks]] does not silently add nothing."""
    file = tmp_path / "callbacks.toml"
    file.write_text('[[callback]]\nname = "history"\n')
    with pytest.raises(SelectionError) as refused:
        chosen("--callbacks-from", str(file))
    assert str(refused.value) == (
        f"{file} has no [[callbacks]] table; it has: callback.\n"
        'fix: write [[callbacks]] tables: name = "early_stopping", and its settings'
    )


def test_an_empty_environment_changes_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables a script runs as it is written."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "")
    monkeypatch.delenv("HOOKLOOP_DISABLE", raising=False)
    assert with_environment(["a"]) == (["a"], None)


def test_only_the_outermost_run_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation inside of a callback is not meant."""
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", "history")
    with outermost():
        assert with_environment(["a"]) == (["a"], None)
    assert with_environment(["a"])[0] == ["a", "history"]


def test_disabling_what_a_run_does_not_have_is_said_and_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A script that fits and then evaluates has a callback in the one and not in the other."""
    monkeypatch.setenv("HOOKLOOP_DISABLE", "early_stopping;a")
    assert with_environment(["a", "b"]) == (
        ["b"],
        "HOOKLOOP_DISABLE removes a; "
        "HOOKLOOP_DISABLE names early_stopping, which this run does not have",
    )


def test_merging_keeps_the_first_of_two_of_a_name_in_its_place() -> None:
    """Two items of one name in a later source: the last of them stands."""
    assert merge(["a:k=1", "b"], ["a:k=2", "a:k=3"]) == ["a:k=3", "b"]
