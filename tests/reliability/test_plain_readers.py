"""What `docs/checkpoints.md` says about reading weights without hookloop, where there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
import torch
from comparing import differences

import hookloop

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"


def plain_blocks() -> list[str]:
    """Find the page's code that is to run with torch and safetensors alone."""
    whole = PAGE.read_text()
    part = whole[whole.index("Without hookloop") : whole.index("## Looking at one")]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


@pytest.mark.parametrize("number", [0, 1], ids=["file", "folder"])
def test_the_lines_of_the_page_read_the_weights_without_hookloop(
    tmp_path: Path, number: int
) -> None:
    """In a process in which importing it fails."""
    state = hostile.good_states()[1]
    hostile.lay_out(tmp_path / "files", state)
    lines = [line for line in plain_blocks()[number].splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import", "from"))]) <= 3
    script = (
        "import sys\nsys.modules['hookloop'] = None\nimport torch\n"
        "model = torch.nn.Sequential(\n"
        "    torch.nn.Linear(2, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1)\n)\n"
        + "\n".join(lines)
        + "\ntorch.save(model.state_dict(), 'read.pt')\n"
    )
    folder = tmp_path / "files"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    read = torch.load(folder / "read.pt", weights_only=True)
    assert differences(dict(read), dict(state["model"])) == []


def test_load_checkpoint_needs_neither_a_model_nor_the_trainer(tmp_path: Path) -> None:
    """It gives the weights of a file of any kind, and does not import the trainer for it."""
    state = hostile.good_states()[1]
    hostile.lay_out(tmp_path / "files", state)
    for name in (*hostile.STATES, *hostile.WEIGHTS):
        weights = hookloop.load_checkpoint(tmp_path / "files" / name)
        assert differences(weights, dict(state["model"])) == []
    script = (
        "import sys, hookloop\n"
        "hookloop.load_checkpoint('run')\n"
        "assert not {'hookloop.trainer', 'hookloop.registry'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "files", check=True)
