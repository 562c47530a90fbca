"""From an idea to a package: ``hookloop new``, then what it prints, typed as a new user does.

pip finds the wheel of core in a folder and asks no network; torch and pytest are linked.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import environments
import pytest

TOOLS = ("pytest", "pip", "setuptools", "wheel")
TRAIN = """
import torch
from hookloop import Trainer

x = torch.linspace(-1, 1, 32).reshape(-1, 1)
trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
trainer.fit((x, 2 * x), epochs=4, verbose=0, callbacks="loss_spike:every=2")
"""


class Desk:
    """An environment in which somebody works, and the empty folder they begin in.

    Args:
        folder: Where both shall be.
        wheels: The only place where pip may look.
    """

    def __init__(self, folder: Path, wheels: Path) -> None:
        shared = [*environments.needs("hookloop"), *TOOLS]
        self.wheels = wheels
        self.python = environments.make(folder / "environment", wheels, ["hookloop"], shared)
        self.folder = folder / "empty"
        self.folder.mkdir()

    def type(self, line: str, folder: str = ".") -> str:
        """Type one line into a shell, and give what is printed.

        The backend that builds is the one that is linked: pip would download it otherwise.
        """
        variables = environments.clean(
            PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.wheels), PIP_NO_BUILD_ISOLATION="0"
        )
        variables["PATH"] = f"{self.python.parent}:{variables['PATH']}"
        done = subprocess.run(
            line,
            shell=True,
            cwd=self.folder / folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, line: str) -> list[str]:
        """Type ``hookloop new``, and give the commands that it prints."""
        *_, head, first, second, third = self.type(line).splitlines()
        assert head.startswith("Next, in ")
        return [first.strip(), second.strip(), third.strip()]


@pytest.fixture
def desk(tmp_path: Path, wheels: Path) -> Desk:
    return Desk(tmp_path, wheels)


def test_a_new_package_installs_passes_its_tests_and_builds(
    desk: Desk, wheels: Path, tmp_path: Path
) -> None:
    """Its wheel, in the environment of somebody else, trains by name."""
    install, test, build = desk.start("hookloop new loss_spike")
    desk.type(install, "loss_spike")
    assert " passed" in desk.type(test, "loss_spike")
    desk.type("hookloop check loss_spike")
    desk.type(build, "loss_spike")

    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other", wheels)
    environments.install(other.python, desk.folder / "loss_spike" / "dist", "hookloop-loss-spike")
    (other.folder / "train.py").write_text(TRAIN)
    assert other.type("python train.py") == "loss_spike: 2 epochs\nloss_spike: 4 epochs\n"
    where = other.type("python -c 'import hookloop_loss_spike as it; print(it.__file__)'")
    assert Path(where.strip()).is_relative_to(tmp_path / "other" / "environment")


def test_a_minimal_package_does_too(desk: Desk) -> None:
    """One module and a pyproject.toml are enough to be chosen by name."""
    install, info, build = desk.start("hookloop new loss_spike --minimal")
    desk.type(install, "loss_spike")
    assert "loss_spike  (hookloop-loss-spike 0.1.0" in desk.type(info, "loss_spike")
    desk.type(build, "loss_spike")

    (desk.folder / "train.py").write_text(TRAIN)
    assert desk.type("python train.py") == "loss_spike: 2 epochs\nloss_spike: 4 epochs\n"
    (wheel,) = (desk.folder / "loss_spike" / "dist").iterdir()
    assert wheel.name == "hookloop_loss_spike-0.1.0-py3-none-any.whl"
