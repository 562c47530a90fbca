"""The example scripts, run as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path, *words: str) -> str:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout


def test_every_example_is_short_and_tested_here() -> None:
    """A script to copy is read first: under 60 lines; and none is left to rot."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    tests = Path(__file__).read_text()
    assert {name: n for name, n in lengths.items() if n >= 60 or f'"{name}"' not in tests} == {}


def test_train_digits_trains_with_the_callbacks_of_its_command_line(tmp_path: Path) -> None:
    """The defaults of the script, changed from outside, leave their files."""
    shown = run(
        "train_digits.py",
        tmp_path,
        *("--epochs", "3", "--no-callback", "early_stopping"),
        *("--callback", "csv_logger:filename=my.csv"),
    )
    found = re.search(r"validation accuracy: (0\.\d+)$", shown)
    assert found is not None
    assert float(found.group(1)) > 0.9
    left = sorted(path.name for path in (tmp_path / "runs" / "train_digits").iterdir())
    assert left == ["best.pt", "curves.png"]
    assert len((tmp_path / "my.csv").read_text().splitlines()) == 4


def test_every_example_plugin_is_short_and_asks_for_its_hook_api() -> None:
    """What a third party needs to write is under 120 lines, and says what it was written for."""
    for plugin in sorted((EXAMPLES / "plugins").iterdir()):
        sources = list((plugin / "src").rglob("*.py"))
        assert sum(len(path.read_text().splitlines()) for path in sources) < 120, plugin.name
        assert any("    hook_api = 1\n" in path.read_text() for path in sources), plugin.name
