"""Wheels of core and one plugin, in a fresh environment: a training by name runs there.

The environment is a virtual one without hookloop's sources on its path. torch and what core
depends on are too large to install anew for a test: links to them stand in a folder of its path.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAIN = """
import torch
from hookloop import Trainer

x = torch.linspace(-1, 1, 32).reshape(-1, 1)
trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.0", seed=0)
history = trainer.fit(
    (x, 2 * x),
    epochs=9,
    verbose=0,
    callbacks="early_stopping:monitor=loss,patience=2,min_delta=0.1",
)
print(history.epoch, history.outcome)
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def requirements(name: str, found: set[str]) -> set[str]:
    """Add a distribution, and all that it needs on this machine, to a set."""
    try:
        needs = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return found
    found.add(name)
    for need in needs:
        other = re.match(r"[\w.-]+", need)
        if other and "extra ==" not in need and other[0] not in found:
            requirements(other[0], found)
    return found


def link_dependencies(folder: Path) -> None:
    """Link what core depends on, and nothing of hookloop, into a folder."""
    folder.mkdir()
    names: set[str] = set()
    for name in ("torch", "numpy", "pluggy", "safetensors", "filelock"):
        requirements(name, names)
    for name in names:
        distribution = metadata.distribution(name)
        tops = {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of core and of early_stopping, built from copies of their folders."""
    out = tmp_path_factory.mktemp("wheels")
    sources = tmp_path_factory.mktemp("sources")
    ignore = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", "tests")
    for folder in ("core", "plugins/early_stopping"):
        copy = sources / Path(folder).name
        shutil.copytree(ROOT / folder, copy, ignore=ignore)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy]
        subprocess.run(build, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the dependencies of core, and nothing of hookloop."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    link_dependencies(folder / "shared")
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    (packages / "shared.pth").write_text(f"{folder / 'shared'}\n")
    return folder


@pytest.fixture(scope="module")
def run(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the fresh environment's Python, in an empty folder, with nothing from outside."""
    empty = tmp_path_factory.mktemp("empty")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(fresh / "bin" / "python"), *words]
        return subprocess.run(
            command,
            cwd=empty,
            env={"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def install(fresh: Path, *wheels: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", fresh / "bin" / "python", "install"]
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, *wheels], check=True)


def test_wheels_run_a_training_by_name_in_a_fresh_environment(
    wheels: Path, fresh: Path, run: Run
) -> None:
    """Without the plugin the error names the line that installs it; with it the training runs."""
    assert "No module named 'hookloop'" in run("-c", "import hookloop").stderr
    install(fresh, *wheels.glob("hookloop-*.whl"))
    without = run("-c", TRAIN)
    assert without.returncode == 1
    assert without.stderr.endswith(
        "hookloop.errors.UnknownCallbackError: The callback 'early_stopping' is not installed; it "
        "is one of hookloop's own.\nfix: pip install hookloop-early-stopping\n"
    )
    install(fresh, *wheels.glob("hookloop_early_stopping-*.whl"))
    with_it = run("-c", TRAIN)
    assert (with_it.stdout, with_it.stderr) == ("[0, 1, 2] stopped\n", "")
    where = run("-c", "import hookloop, hookloop_early_stopping as e; print(hookloop.__file__, e)")
    assert str(ROOT) not in where.stdout
    version = run("-m", "hookloop.cli", "--version")
    assert version.returncode == 0, version.stderr


def test_wheels_hold_the_package_its_types_and_nothing_else(wheels: Path) -> None:
    """``py.typed`` is in, tests are not, and the metadata are complete."""
    from zipfile import ZipFile

    for wheel in wheels.glob("*.whl"):
        package = wheel.name.partition("-")[0]
        with ZipFile(wheel) as archive:
            names = archive.namelist()
            (path,) = [name for name in names if name.endswith("METADATA")]
            about = archive.read(path).decode()
        assert f"{package}/py.typed" in names
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {package}
        assert not [name for name in names if "test" in name and "/testing/" not in name]
        for field in ("Requires-Python: >=3.11", "License-Expression: MIT", "Summary: "):
            assert field in about
