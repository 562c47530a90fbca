"""Which plugins a hookloop takes, what it promises them, and how it says that something goes."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest
import torch

from hookloop import Callback, Trainer, __version__, deprecations, hookspecs, load, load_callbacks
from hookloop.compatibility import HOOK_API
from hookloop.deprecations import DEPRECATIONS, Deprecation, warn_of
from hookloop.errors import PluginImportError

SOURCES = Path(deprecations.__file__).parent
#: The hooks of API 1, with the arguments that plugins of that API may ask for.
API_1 = {
    "on_train_begin": {"loop", "logs"},
    "on_epoch_begin": {"loop", "epoch", "logs"},
    "on_train_batch_begin": {"loop", "batch", "logs"},
    "on_before_optimizer_step": {"loop", "optimizer", "logs"},
    "on_train_batch_end": {"loop", "batch", "logs"},
    "on_batch_checkpoint": {"loop", "batch", "logs"},
    "on_test_begin": {"loop", "logs"},
    "on_test_batch_begin": {"loop", "batch", "logs"},
    "on_test_batch_end": {"loop", "batch", "logs"},
    "on_test_end": {"loop", "logs"},
    "on_epoch_end": {"loop", "epoch", "logs"},
    "on_epoch_checkpoint": {"loop", "epoch", "logs"},
    "on_train_end": {"loop", "logs"},
    "on_predict_begin": {"loop", "logs"},
    "on_predict_batch_begin": {"loop", "batch", "logs"},
    "on_predict_batch_end": {"loop", "batch", "logs"},
    "on_predict_end": {"loop", "logs"},
    "on_exception": {"loop", "exception"},
    "on_message": {"loop", "text"},
}


# -- the hook API ------------------------------------------------------------------------------


def module(folder: Path, api: str) -> str:
    """Write a module with one callback that states a hook API, and give its reference."""
    text = f"""
        import hookloop

        class Mine(hookloop.Callback):
            hook_api = {api}

            def __init__(self):
                open({str(folder / "made")!r}, "x").close()

            def on_train_begin(self):
                pass
    """
    (folder / "mine_of_api.py").write_text(textwrap.dedent(text))
    return "mine_of_api:Mine"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules can be imported from, one a test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "mine_of_api", raising=False)
    return tmp_path


def test_a_class_for_the_hook_api_of_today_is_taken(folder: Path) -> None:
    """It states the number that the scaffold writes."""
    assert load(module(folder, str(HOOK_API))).hook_api == HOOK_API


@pytest.mark.reliability("J6")
def test_a_class_for_a_newer_hook_api_is_refused_by_name_before_it_is_made(folder: Path) -> None:
    """Its constructor never runs; the error says what both sides have, and what to do."""
    with pytest.raises(PluginImportError) as caught:
        load(module(folder, str(HOOK_API + 1)))

    assert str(caught.value) == (
        f"The callback 'mine_of_api:Mine' needs hook API {HOOK_API + 1}; this hookloop offers "
        f"{HOOK_API}.\nfix: pip install --upgrade hookloop, or install an older version of the "
        "plugin"
    )
    assert not (folder / "made").exists()


@pytest.mark.parametrize("api", ["0", "-1", "True", "1.0", "'1'", "None", "(1, 2)"])
def test_what_is_no_number_of_a_hook_api_is_refused(folder: Path, api: str) -> None:
    """A slip in the class is not taken for an answer."""
    with pytest.raises(PluginImportError, match=r"states hook_api=.*whole number from 1.\nfix: "):
        load(module(folder, api))


def test_without_a_hook_api_it_is_the_first() -> None:
    """Classes, and objects that derive from nothing, need not state it."""

    class Plain:
        def on_train_begin(self) -> None:
            pass

    class Own(Callback):
        pass

    assert [type(one) for one in load_callbacks([Plain(), Own()])] == [Plain, Own]
    assert Own.hook_api == 1


@pytest.mark.reliability("J6")
def test_an_instance_for_a_newer_hook_api_is_refused_before_training() -> None:
    """Also one that nobody loaded by name: nothing of the run has happened yet."""
    seen: list[str] = []

    class Newer(Callback):
        hook_api = HOOK_API + 1

        def on_train_begin(self) -> None:
            seen.append("begin")

    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1")
    with pytest.raises(PluginImportError, match="Newer needs hook API"):
        trainer.fit((torch.ones(2, 1), torch.ones(2, 1)), callbacks=[Newer()], verbose=0)
    assert seen == []


def test_a_plugin_of_a_dropped_hook_api_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once an old API is no longer offered, its plugins are told so, and not run."""
    monkeypatch.setattr("hookloop.compatibility.OLDEST_HOOK_API", 2)
    monkeypatch.setattr("hookloop.compatibility.HOOK_API", 2)

    with pytest.raises(PluginImportError, match="offers no older than 2"):
        load("early_stopping")


def test_hooks_of_api_1_only_grow() -> None:
    """No hook and no argument that a plugin of API 1 may use has gone."""
    today = {name: set(inspect.signature(getattr(hookspecs, name)).parameters) for name in API_1}

    assert {name: API_1[name] - today[name] for name in API_1} == {name: set() for name in API_1}


def test_every_hook_of_today_belongs_to_an_api() -> None:
    """A new hook is written into the table above, so that it is kept from then on."""
    assert set(hookspecs.names()) == set(API_1)


# -- deprecations ------------------------------------------------------------------------------


def minor(version: str) -> int:
    """Number the minor releases through: 0.2 is 2, 1.0 comes after every 0.x."""
    major, number = (int(part) for part in version.split(".")[:2])
    return 1000 * major + number


def broken(table: dict[str, Deprecation], version: str) -> list[str]:
    """Tell which deprecations are too short, or should have been removed."""
    return [
        key
        for key, old in table.items()
        if minor(old.removal) - minor(old.since) < 2 or minor(version) >= minor(old.removal)
    ]


def used() -> set[str]:
    """Find the keys with which core calls `warn_of`."""
    return {
        str(ast.literal_eval(node.args[0]))
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and re.search(r"(^|\.)warn_of$", ast.unparse(node.func))
        and path.name != "deprecations.py"
    }


def test_what_is_deprecated_warns_at_the_line_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the release that removes it, and what to write."""
    old = Deprecation("fit(period=)", "write fit(every=...)", since="0.2", removal="0.4")
    monkeypatch.setitem(DEPRECATIONS, "period", old)
    with pytest.warns(DeprecationWarning, match="period") as warned:
        warn_of("period")

    assert str(warned[0].message) == (
        "fit(period=) is deprecated since hookloop 0.2; 0.4 removes it.\nfix: write fit(every=...)"
    )
    assert warned[0].filename == __file__


def test_no_deprecation_is_too_short_or_overdue() -> None:
    """Two minor releases with a warning, and then it goes."""
    assert broken(DEPRECATIONS, __version__) == []


@pytest.mark.parametrize(
    ("since", "removal", "version", "bad"),
    [
        ("0.2", "0.4", "0.3.1", []),
        ("0.2", "0.3", "0.2.0", ["old"]),
        ("0.2", "0.4", "0.4.0", ["old"]),
        ("0.9", "1.1", "1.0.0", []),
    ],
    ids=["two releases", "too short", "overdue", "over a major one"],
)
def test_a_deprecation_that_breaks_the_promise_is_found(
    since: str, removal: str, version: str, bad: list[str]
) -> None:
    """The check above can fail."""
    assert broken({"old": Deprecation("old", "new", since, removal)}, version) == bad


def test_every_deprecation_is_used_and_named() -> None:
    """None is warned of without standing in the table, or stands there without being warned of."""
    assert used() == set(DEPRECATIONS)
