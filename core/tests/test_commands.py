"""Commands that plugins add to ``hookloop``."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

GREET = """
    from hookloop.errors import HookloopError

    def main(words):
        if "fail" in words:
            raise HookloopError("No.", fix="yes")
        print("greeting", *words)
        return 3 if "three" in words else None
"""


def install(place: Path, distribution: str, module: str, text: str, name: str = "greet") -> None:
    """Make what pip leaves behind: metadata with one command, and one module."""
    info = place / f"{distribution}-1.5.dist-info"
    info.mkdir(parents=True)
    point = f"[hookloop.commands]\n{name} = {module}:main\n"
    (info / "entry_points.txt").write_text(point)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (place / f"{module}.py").write_text(textwrap.dedent(text))


def hookloop(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hookloop.cli", *words],
        env={**os.environ, "PYTHONPATH": str(place), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_of_a_plugin_gets_the_words_after_its_name(tmp_path: Path) -> None:
    """As they are, options of its own included; what it returns is the exit status."""
    install(tmp_path, "greeter", "greeter", GREET)
    done = hookloop(tmp_path, "greet", "--you", "list")
    assert (done.returncode, done.stdout) == (0, "greeting --you list\n")
    assert hookloop(tmp_path, "greet", "three").returncode == 3


def test_its_errors_are_sentences(tmp_path: Path) -> None:
    """Like those of the commands of core."""
    install(tmp_path, "greeter", "greeter", GREET)
    done = hookloop(tmp_path, "greet", "fail")
    assert (done.returncode, done.stderr) == (2, "hookloop: No.\nfix: yes\n")


def test_the_help_lists_commands_without_importing_them(tmp_path: Path) -> None:
    """With whom they are of."""
    install(tmp_path, "bomber", "bomb", "raise RuntimeError('executed')", name="bomb")
    done = hookloop(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bomb       (of bomber)" in done.stdout


def test_a_command_that_cannot_be_imported_is_a_sentence(tmp_path: Path) -> None:
    """It matters only to whoever types it."""
    install(tmp_path, "bomber", "bomb", "raise RuntimeError('executed')", name="bomb")
    done = hookloop(tmp_path, "bomb")
    assert done.returncode == 2
    assert "The command 'bomb' of bomber 1.5 (bomb:main) cannot be imported" in done.stderr
    assert hookloop(tmp_path, "list", "history").returncode == 0


def test_two_owners_of_a_command_are_named(tmp_path: Path) -> None:
    """Neither is run."""
    install(tmp_path, "greeter", "greeter", GREET)
    install(tmp_path, "other", "other", GREET)
    done = hookloop(tmp_path, "greet")
    assert done.returncode == 2
    assert "The command 'greet' is provided by greeter and other." in done.stderr


def test_no_plugin_takes_a_command_of_core(tmp_path: Path) -> None:
    """``hookloop list`` stays what it is."""
    install(tmp_path, "greeter", "greeter", GREET, name="list")
    done = hookloop(tmp_path, "list", "history")
    assert "hookloop.history:History" in done.stdout
