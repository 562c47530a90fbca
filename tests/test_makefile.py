"""What somebody sees who types ``make`` in a fresh checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts that the environment is made of, with a pip that installs nothing."""
    (tmp_path / "core").mkdir()
    for name in ("constraints.txt", "requirements-dev.txt", "core/pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    text = (ROOT / "Makefile").read_text()
    (tmp_path / "Makefile").write_text(text.replace("python -m pip install", "python --version"))
    return tmp_path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"PYTHON={path}"


@pytest.mark.parametrize("goal", ["demo", "test"])
def test_a_python_that_is_too_old_is_refused_at_once(checkout: Path, goal: str) -> None:
    """One sentence, with the command that works; nothing is made."""
    old = script(checkout / "old", "exit 1")
    done = make(checkout, goal, old)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == (
        f"hookloop needs Python 3.11 or newer, which {checkout / 'old'} is not; name one that is: "
        f"make {goal} PYTHON=python3.11"
    )
    assert not (checkout / ".venv").exists()


def test_an_environment_is_announced_and_one_without_pip_is_made_anew(checkout: Path) -> None:
    """What comes, how much, and how long: before the silence of the installation."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    script(checkout / ".venv" / "bin" / "python", "exit 1")
    works = 'case "$1" in -c) ;; *) mkdir -p .venv/bin; cp new .venv/bin/python; echo "$@";; esac'
    script(checkout / "new", "exit 0")
    done = make(checkout, "venv", script(checkout / "python", works))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "-m venv --clear .venv",
        "Installing hookloop, its plugins, torch and the tools into .venv: about 1.5 GB with torch "
        "for the CPU, more with CUDA; this takes minutes.",
    ]


def test_an_environment_that_is_there_is_used_whatever_python_is(checkout: Path) -> None:
    """Also where the one on the path is too old to make another."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    script(checkout / ".venv" / "bin" / "python", "exit 0")
    assert make(checkout, "venv", script(checkout / "old", "exit 1")).returncode == 0


def test_the_tests_of_every_bridge_are_run() -> None:
    """A phony target takes no rule from a pattern, and make is content to do nothing for it."""
    done = make(ROOT, "--dry-run", "test-bridges")

    bridges = sorted(path.parent.name for path in ROOT.glob("plugins/in_*/pyproject.toml"))
    lines = done.stdout.splitlines()
    assert bridges
    for bridge in bridges:
        assert any(line.endswith(f"-m pytest plugins/{bridge}") for line in lines), bridge
