"""``hookloop new``: what it writes, in whose style, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest

from hookloop import __version__, scaffold
from hookloop.cli import main
from hookloop.errors import ArgumentError

ROOT = Path(__file__).parents[2]
FILES = """
.github/workflows/tests.yml
.gitignore
CHANGELOG.md
LICENSE
README.md
pyproject.toml
src/hookloop_loss_spike/__init__.py
src/hookloop_loss_spike/py.typed
tests/test_behaviour.py
tests/test_conformance.py
"""
LONG = "a_name_with_thirty_characters"


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_it_writes_a_whole_package_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into the current folder; the last three lines are commands to copy."""
    monkeypatch.chdir(tmp_path)
    assert main(["new", "loss_spike"]) == 0

    assert files(tmp_path / "loss_spike") == FILES.split()
    said = capsys.readouterr().out
    assert "Write yours in loss_spike/src/hookloop_loss_spike/__init__.py." in said
    assert said.endswith(
        "Next, in loss_spike/:\n"
        '  python -m pip install -e ".[test]"\n'
        "  python -m pytest\n"
        "  python -m pip wheel --no-deps -w dist .\n"
    )


def test_the_documentation_shows_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever follows "Writing a plugin" sees the same."""
    monkeypatch.chdir(tmp_path)
    main(["new", "loss_spike"])

    page = (ROOT / "docs/writing-a-plugin.md").read_text()
    assert f"```text\n{capsys.readouterr().out}```\n" in page


def test_the_metadata_have_the_entry_point_and_ranges_of_this_release(tmp_path: Path) -> None:
    """From the minor release that wrote them, to before the next one."""
    scaffold.new("loss_spike", into=tmp_path, author="Ada")
    project = tomllib.loads((tmp_path / "loss_spike/pyproject.toml").read_text())["project"]
    major, minor = map(int, __version__.split(".")[:2])
    pin = f">={major}.{minor},<{major}.{minor + 1}"

    assert project["name"] == "hookloop-loss-spike"
    assert project["dependencies"] == [f"hookloop{pin}"]
    assert project["optional-dependencies"] == {"test": [f"hookloop[testing]{pin}"]}
    assert project["entry-points"] == {
        "hookloop.callbacks": {"loss_spike": "hookloop_loss_spike:LossSpike"}
    }
    assert project["authors"] == [{"name": "Ada"}]
    licence = (tmp_path / "loss_spike/LICENSE").read_text()
    assert f"Copyright (c) {date.today().year} Ada\n" in licence


def test_minimal_is_one_module_and_its_metadata(tmp_path: Path) -> None:
    """For whoever wants to install a callback for themselves."""
    written = scaffold.new("loss_spike", into=tmp_path, minimal=True)

    assert files(tmp_path / "loss_spike") == ["hookloop_loss_spike.py", "pyproject.toml"]
    assert written.source == "hookloop_loss_spike.py"
    assert len(written.commands) == 3


def test_nothing_of_the_scaffold_is_left_over(tmp_path: Path) -> None:
    """Every word that stands for something is replaced, in names of files too."""
    scaffold.new("loss_spike", into=tmp_path)
    text = "\n".join(
        f"{path}\n{path.read_text()}" for path in tmp_path.rglob("*") if path.is_file()
    )

    for word in ("my_callback", "my-callback", "MyCallback", "THE_"):
        assert word not in text.replace(str(tmp_path), "")


@pytest.mark.parametrize("typed", ["loss_spike", "loss-spike", "LossSpike", "loss.spike"])
def test_a_name_may_be_typed_in_any_spelling(typed: str, tmp_path: Path) -> None:
    """As everywhere else; what is written has one."""
    assert scaffold.new(typed, into=tmp_path).folder == tmp_path / "loss_spike"


@pytest.mark.parametrize(
    ("name", "sentence", "fix"),
    [
        ("", "'' cannot be the name", "letters, digits and underscores"),
        ("3d", "'3d' cannot be the name", "letters, digits and underscores"),
        ("größe", "'größe' cannot be the name", "letters, digits and underscores"),
        ("True", "'True' cannot be the name", "letters, digits and underscores"),
        ("callback", "'callback' cannot be the name", "letters, digits and underscores"),
        ("plugins/spike", "'plugins/spike' cannot be", "hookloop new spike --into plugins"),
        ("hookloop-spike", "'hookloop-spike': the package's name", "hookloop new spike"),
        ("x" * 31, "31 characters, more than 30", "a name that people like to type"),
        ("history", "'history' is already one of hookloop 0", "another name"),
        ("EarlyStopping", "'early_stopping' is already one of hookloop-early", "another name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    name: str, sentence: str, fix: str, tmp_path: Path
) -> None:
    """With what to type instead, and nothing is written."""
    with pytest.raises(ArgumentError) as caught:
        scaffold.new(name, into=tmp_path)

    assert sentence in str(caught.value)
    assert caught.value.fix is not None
    assert caught.value.fix.startswith(fix)
    assert files(tmp_path) == []


def test_a_name_of_hookloops_own_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever installs that one later could choose neither."""
    monkeypatch.setattr("hookloop.discovery.installed", lambda group="": {})
    with pytest.raises(ArgumentError, match="already one of hookloop's own collection"):
        scaffold.new("early_stopping", into=tmp_path)


@pytest.mark.parametrize("author", ["", 'Ada "A"', "Ada\\", "Ada\nB"])
def test_an_author_that_would_break_the_metadata_is_refused(author: str, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(ArgumentError, match="fix: a name without quotes"):
        scaffold.new("loss_spike", into=tmp_path, author=author)

    assert files(tmp_path) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A folder that has anything in it stays as it is; an empty one is filled."""
    (tmp_path / "loss_spike").mkdir()
    scaffold.new("loss_spike", into=tmp_path, minimal=True)
    module = tmp_path / "loss_spike/hookloop_loss_spike.py"
    module.write_text("mine")
    with pytest.raises(ArgumentError, match=r"nothing of it is overwritten.\nfix: another name"):
        scaffold.new("loss_spike", into=tmp_path)

    assert files(tmp_path / "loss_spike") == ["hookloop_loss_spike.py", "pyproject.toml"]
    assert module.read_text() == "mine"


def tool(*words: str | Path, within: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=within, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("minimal", [False, True], ids=["package", "minimal"])
@pytest.mark.parametrize("name", ["ab", LONG])
def test_what_it_writes_passes_ruff(name: str, minimal: bool, tmp_path: Path) -> None:
    """Its checks and its format: as configured there, by default, and with our own rules.

    Our own rules but for one: to a third party hookloop is not of the house.
    """
    folder = scaffold.new(name, into=tmp_path, minimal=minimal).folder
    ours = ("--config", str(ROOT / "pyproject.toml"))
    third = ("--config", "lint.isort.known-first-party=[]")
    for options in ((), ("--isolated",), (*ours, *third)):
        tool("ruff", "check", "--no-cache", *options, ".", within=folder)
        tool("ruff", "format", "--no-cache", "--check", *options, ".", within=folder)


def test_what_it_writes_passes_mypy_strict(tmp_path: Path) -> None:
    """The package and its tests, with the configuration that it brings."""
    folder = scaffold.new("loss_spike", into=tmp_path).folder
    tool("mypy", "--strict", "--no-incremental", "src", "tests", within=folder)
