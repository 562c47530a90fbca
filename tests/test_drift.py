"""What is documented follows the code: each check is shown to fail when one of the two changes."""

from __future__ import annotations

import inspect
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import generate
import plugin_pages
import pytest

from hookloop import errors, hookspecs
from hookloop.describe import describe
from hookloop.discovery import find

ROOT = Path(__file__).resolve().parent.parent
HOOKS = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


# -- hooks ---------------------------------------------------------------


def specs(**changed: Any) -> SimpleNamespace:
    """The module of specifications, with some of them changed in memory."""
    return SimpleNamespace(**{**vars(hookspecs), **changed})


@hookspecs.hookspec
def on_epoch_end(loop, epoch, logs):
    """An epoch is done, and something else is said about it."""


@hookspecs.hookspec
def on_epoch_end_with_more(loop, epoch, logs, seconds):
    """An epoch is done."""


@hookspecs.hookspec
def on_teatime(loop):
    """It is four o'clock."""


UNMAPPED = re.sub(r" +on_epoch_begin\n", "", hookspecs.__doc__, count=1)


def unmapped(page: str) -> list[str]:
    """Hooks that have a section on a page and no line in its map of the loop, or the reverse."""
    the_map = page.partition("```text\n")[2].partition("```")[0]
    mapped = set(re.findall(r"^ *(on_\w+)", the_map, re.MULTILINE))
    return sorted(mapped ^ set(re.findall(r"^## (on_\w+)$", page, re.MULTILINE)))


def test_the_page_of_hooks_is_that_of_the_specifications() -> None:
    """Each hook has its section, from its docstring, and its line in the map of the loop."""
    assert generate.hooks_page(specs()) == HOOKS
    assert unmapped(HOOKS) == []


@pytest.mark.parametrize(
    "changed",
    [
        specs(on_epoch_end=on_epoch_end),
        specs(on_epoch_end=on_epoch_end_with_more),
        specs(on_teatime=on_teatime),
        specs(__doc__=UNMAPPED),
    ],
    ids=["other words", "another argument", "another hook", "another map"],
)
def test_a_changed_specification_makes_the_page_of_hooks_stale(changed: SimpleNamespace) -> None:
    """The check of docs/hooks.md fails as soon as anything in hookspecs.py differs."""
    assert generate.hooks_page(changed) != HOOKS


@pytest.mark.parametrize(
    ("changed", "hook"),
    [
        (specs(on_teatime=on_teatime), "on_teatime"),
        (specs(__doc__=UNMAPPED), "on_epoch_begin"),
    ],
    ids=["a hook without a line", "a line that is lost"],
)
def test_a_hook_outside_of_the_map_of_the_loop_is_seen(changed: Any, hook: str) -> None:
    """Generating anew does not help whoever forgets to say where in the loop a hook stands."""
    assert unmapped(generate.hooks_page(changed)) == [hook]


# -- plugins ---------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The pages and plugins of this checkout, in a folder that a test may change."""
    shutil.copy(ROOT / "README.md", tmp_path)
    for part in ("docs", "benchmarks/results"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for folder in (ROOT / "plugins").iterdir():
        copy = tmp_path / "plugins" / folder.name
        copy.mkdir(parents=True)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(folder / name, copy)
    return tmp_path


def stale(root: Path) -> set[str]:
    pages = generate.pages(root).items()
    return {path.name for path, text in pages if path.read_text(encoding="utf-8") != text}


def test_another_plugin_makes_the_tables_of_plugins_stale(checkout: Path) -> None:
    """Whoever adds a plugin and does not generate its rows is told so by the checks."""
    assert stale(checkout) == set()
    new = checkout / "plugins" / "teatime"
    new.mkdir()
    (new / "README.md").write_text("# hookloop-teatime\n\nSays when it is four o'clock.\n")
    (new / "pyproject.toml").write_text(
        '[project]\nname = "hookloop-teatime"\n'
        '[project.entry-points."hookloop.callbacks"]\nteatime = "hookloop_teatime:Teatime"\n'
    )
    assert stale(checkout) == {"README.md", "plugins.md"}


@pytest.mark.parametrize("change", ["another promise", "another name", "deleted"])
def test_a_changed_plugin_makes_the_tables_of_plugins_stale(checkout: Path, change: str) -> None:
    """Its first sentence, its name and its being there stand in the tables."""
    folder = checkout / "plugins" / "csv_logger"
    readme, manifest = folder / "README.md", folder / "pyproject.toml"
    if change == "another promise":
        readme.write_text(readme.read_text().replace("Writes what", "Writes all that", 1))
    elif change == "another name":
        manifest.write_text(manifest.read_text().replace("\ncsv_logger =", "\ntsv_logger ="))
    else:
        shutil.rmtree(folder)
    assert {"README.md", "plugins.md"} <= stale(checkout)


# -- settings ---------------------------------------------------------------


def with_settings(cls: type, change: str) -> type:
    """A class like this one, whose constructor has one setting more, less or with a default."""
    signature = inspect.signature(cls.__init__)
    itself, first, *others = signature.parameters.values()
    parameters = {
        "another default": [itself, first.replace(default="teatime"), *others],
        "another name": [itself, first.replace(name="teatime"), *others],
        "one more": [itself, first, *others, first.replace(name="teatime", kind=3)],
        "one less": [itself, first, *others[:-1]],
    }[change]

    def made(self: Any, *args: Any, **kwargs: Any) -> None: ...

    made.__signature__ = signature.replace(parameters=parameters)
    return type(cls.__name__, (cls,), {"__init__": made, "__doc__": cls.__doc__})


CHANGES = ["another default", "another name", "one more", "one less"]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("plugin", ["csv_logger", "early_stopping", "model_checkpoint"])
def test_a_changed_setting_makes_the_readme_of_its_plugin_stale(plugin: str, change: str) -> None:
    """The check of a README fails as soon as its class is made with anything else."""
    readme = (ROOT / "plugins" / plugin / "README.md").read_text(encoding="utf-8")
    cls = find(plugin).load()

    assert plugin_pages.written(readme) == plugin_pages.real(cls)
    assert plugin_pages.written(readme) != plugin_pages.real(with_settings(cls, change))


def test_a_readme_without_a_table_has_no_settings() -> None:
    """The check of a README does not pass because it found nothing to compare."""
    assert plugin_pages.written("# hookloop-early-stopping\n") == {}
    with pytest.raises(ValueError, match="no table of settings"):
        plugin_pages.complete("# hookloop-early-stopping\n", "early_stopping")


@pytest.mark.parametrize("plugin", generate.plugins(), ids=lambda plugin: plugin.name)
def test_the_page_of_a_plugin_shows_what_its_code_says(plugin: Any) -> None:
    """Every setting of the constructor and every hook of the class is on the site."""
    readme = (ROOT / "plugins" / plugin.folder / "README.md").read_text(encoding="utf-8")
    about = describe(plugin.name)
    page = plugin_pages.complete(readme, plugin.name)

    rows = re.findall(r"^\| `(\**\w+)`<br>", page, re.MULTILINE)
    assert rows == [setting.name for setting in about.settings]
    linked = re.findall(r"\[`(\w+)`\]\(\.\./\.\./docs/hooks\.md#\1\)", page)
    assert linked == [hook.name for hook in about.hooks]


def test_the_page_of_a_plugin_follows_its_constructor_and_its_hooks() -> None:
    """Another default, meaning or hook is another page; nobody has to write it."""
    readme = (ROOT / "plugins" / "early_stopping" / "README.md").read_text(encoding="utf-8")
    about = describe("early_stopping")
    first, *others = about.settings
    page = plugin_pages.page(readme, about)

    for changed in (
        replace(about, settings=(replace(first, default="'teatime'"), *others)),
        replace(about, settings=(replace(first, meaning="What to follow."), *others)),
        replace(about, settings=(first,)),
        replace(about, hooks=about.hooks[:-1]),
        replace(about, observer=True),
    ):
        assert plugin_pages.page(readme, changed) != page


# -- errors ---------------------------------------------------------------


def kinds(module: Any) -> dict[str, str]:
    """The errors of a module, each with what it derives from, as docs/errors.md writes it."""
    found = [e for e in vars(module).values() if isinstance(e, type)]
    return {
        error.__name__: ", ".join(
            f"`{base.__name__}`" for base in error.__bases__ if base is not errors.HookloopError
        )
        for error in found
        if issubclass(error, errors.HookloopError) and error is not errors.HookloopError
    }


def test_the_table_of_errors_is_that_of_core() -> None:
    """docs/errors.md has every error that can be caught, and shows a real one of each kind."""
    section = ERRORS.partition("## The kinds\n")[2].partition("\n## ")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    shown = set(re.findall(r"^(\w+Error): ", ERRORS, re.MULTILINE))

    assert table == kinds(errors)
    assert set(table) - shown == {"UnknownCallbackError"}  # its text lists all that is installed
    another = type("TeatimeError", (errors.HookloopError,), {})
    assert table != kinds(SimpleNamespace(**vars(errors), TeatimeError=another))
