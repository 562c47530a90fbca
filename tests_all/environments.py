"""Wheels of everything here, and fresh environments that hold some of them and nothing else.

    .venv/bin/python tests_all/environments.py build/local build/all

builds the wheels into the first folder and makes an environment in the second with all of them,
for the whole suite: see the Makefile. The tests of this folder make environments with less.

An environment has no source of hookloop on its path. torch, NumPy and what else a distribution
depends on are too large to install anew for a test: links to them stand in a folder of its path,
which pip sees as installed. It has what is declared, so whoever forgets to declare it is caught.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _by_name(*patterns: str) -> dict[str, Path]:
    manifests = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    return {
        tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]["name"]: manifest.parent
        for manifest in manifests
    }


#: Distributions whose sources are here, by name, and their folders. The bridges are among them.
FOLDERS = _by_name("core/pyproject.toml", "plugins/*/pyproject.toml")
#: The same with the examples, whose tests belong to the whole suite.
SOURCES = FOLDERS | _by_name("examples/plugins/*/pyproject.toml")
#: What the tests of a plugin may use beside what the plugin declares.
TOOLS = ("pytest", "hypothesis", "pyte")


def build(out: Path) -> None:
    """Build a wheel of each distribution, from copies: what an earlier build left is not in them.

    Args:
        out: Folder for the wheels; others in it are deleted.
    """
    sources = out / "sources"
    shutil.rmtree(out, ignore_errors=True)
    ignore = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", "tests")
    for folder in SOURCES.values():
        shutil.copytree(folder, sources / folder.name, ignore=ignore)
    copies = [sources / folder.name for folder in SOURCES.values()]
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, *copies)
    shutil.rmtree(sources)


def make(folder: Path, wheels: Path, names: Iterable[str], shared: Sequence[str]) -> Path:
    """Make an environment, and let pip install distributions of ours by name, from their wheels.

    Args:
        folder: Where it shall be.
        wheels: The only place where pip may look.
        names: Distributions to install.
        shared: Names of distributions to link, each with what it depends on.

    Returns:
        Its Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    _link(folder / "shared", shared)
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    (packages / "shared.pth").write_text(f"{folder / 'shared'}\n")
    python = folder / "bin" / "python"
    if names:
        install(python, wheels, *names)
    return python


def install(python: Path, wheels: Path, *names: str) -> None:
    """Let pip install distributions by name, with what they require, from a folder only."""
    _pip("--python", python, "install", "--no-index", "--find-links", wheels, *names)


def uninstall(python: Path, *names: str) -> None:
    """Let pip take distributions away."""
    _pip("--python", python, "uninstall", "--yes", *names)


def needs(distribution: str) -> list[str]:
    """Tell which distributions of others one of ours declares, without its extras."""
    text = (FOLDERS[distribution] / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["dependencies"]
    return [name for name in map(_name, declared) if name not in FOLDERS]


def clean(**further: str) -> dict[str, str]:
    """Give the variables of a process that nothing from outside reaches."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **further}


def _pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")


def _link(folder: Path, names: Sequence[str]) -> None:
    """Link distributions, and nothing of hookloop, into a folder."""
    folder.mkdir()
    found: set[str] = set()
    for name in names:
        _collect(name, found)
    for name in found:
        distribution = metadata.distribution(name)
        tops = {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
        for path in distribution.files or ():
            if path.parent.name == "bin" and ".." in path.parts:
                _link_program(Path(str(path.locate())).resolve(), folder.parent / "bin")


def _link_program(program: Path, folder: Path) -> None:
    """Link a program that is no script: a script would run in the environment it is from."""
    if program.read_bytes()[:2] != b"#!" and not (folder / program.name).exists():
        (folder / program.name).symlink_to(program)


def _collect(name: str, found: set[str]) -> None:
    """Add a distribution, and all that it requires on this machine, to a set."""
    try:
        required = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # required on another platform or Python
        return
    found.add(name)
    for other in (_name(one) for one in required if "extra ==" not in one):
        if other not in found and other not in SOURCES:
            _collect(other, found)


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0]


def everything() -> list[str]:
    """Name all that is installed beside this Python, but for what is ours."""
    names = {one.metadata["Name"] for one in metadata.distributions()}
    return sorted(name for name in names if name not in SOURCES)


def main() -> None:
    """Build the wheels, and make the environment that has all of them."""
    wheels, folder = (Path(word).resolve() for word in sys.argv[1:])
    build(wheels)
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, wheels, SOURCES, everything())


if __name__ == "__main__":
    main()
