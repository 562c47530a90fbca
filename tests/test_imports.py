"""What is imported when: nothing until it is named, and then that alone.

Each test asks a fresh process, since this one has everything loaded already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "pluggy", "safetensors", "filelock", "importlib_metadata")


def modules_after(script: str, *folders: Path) -> set[str]:
    """Run a script in a fresh process and tell what it has imported."""
    end = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    ran = subprocess.run(
        [sys.executable, "-c", script + end],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def plugins_among(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules if name.startswith("hookloop_")}


@pytest.mark.parametrize(
    "script",
    [
        "import hookloop",
        "import hookloop; dir(hookloop); hookloop.__version__",
        "import hookloop; assert hookloop.available()['early_stopping']",
        "from hookloop import HookloopError",
        "import hookloop\ntry: hookloop.nonsense\nexcept AttributeError: pass",
    ],
)
@pytest.mark.reliability("J4", "J5")
def test_looking_around_imports_neither_torch_nor_a_plugin(script: str) -> None:
    """Listing and help are instant, and installing a package changes nothing."""
    modules = modules_after(script)
    assert {name for name in HEAVY if name in modules} == set()
    assert plugins_among(modules) == set()


def test_the_command_that_lists_imports_neither_torch_nor_a_plugin() -> None:
    """``hookloop list`` answers from metadata."""
    modules = modules_after(
        "from hookloop.cli import main\n"
        "try: main(['list'])\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert {"torch", "numpy"} & modules == set()
    assert plugins_among(modules) == set()


@pytest.mark.reliability("J1", "J3")
def test_choosing_a_plugin_imports_that_one_alone() -> None:
    """Nothing of the others is executed."""
    modules = modules_after("import hookloop; hookloop.load('early_stopping:patience=3')")
    assert plugins_among(modules) == {"hookloop_early_stopping"}


def test_choosing_a_class_of_the_core_imports_no_plugin() -> None:
    """Nor does passing instances."""
    script = (
        "import hookloop\n"
        "hookloop.CallbackList([hookloop.History(), 'base_logger'], model=None).on_train_begin()"
    )
    assert plugins_among(modules_after(script)) == set()


RUN = (
    "import hookloop\n"
    "loaded = hookloop.load_callbacks(['early_stopping', 'history'])\n"
    "hooks = hookloop.CallbackList(loaded, model=None)\n"
    "hooks.on_train_begin(); hooks.on_epoch_end(0, {'val_loss': 1.0}); hooks.on_train_end()\n"
    "assert loaded[1].history == {'val_loss': [1.0]}"
)


@pytest.mark.reliability("J3")
def test_a_broken_plugin_beside_it_changes_nothing(tmp_path: Path) -> None:
    """Whatever is wrong with it: its import, its entry points, its metadata."""
    (tmp_path / "bomb.py").write_text("open('executed', 'w'); raise RuntimeError\n")
    for folder, point, metadata in (
        ("bomb-1.0", "bomb = bomb:Bomb", "Metadata-Version: 2.1\nName: bomb\nVersion: 1.0\n"),
        ("clash-1.0", "history_of_bomb = bomb:Bomb", None),
        ("garbled-1.0", "no equals sign", ""),
    ):
        info = tmp_path / f"{folder}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[hookloop.callbacks]\n{point}\n")
        if metadata is not None:
            (info / "METADATA").write_text(metadata)
    script = f"import os; os.chdir({str(tmp_path)!r})\n{RUN}\nassert 'bomb' in hookloop.available()"
    modules = modules_after(script, tmp_path)
    assert "bomb" not in modules
    assert not (tmp_path / "executed").exists()


def test_importing_everything_of_ours_has_no_side_effect() -> None:
    """No signal handler, no logging set-up, no thread, no warning filter, no seed."""
    script = """
import logging, random, signal, threading, warnings
import numpy, torch
def world():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    return (handlers, list(logging.root.handlers), threading.active_count(), warnings.filters[:],
            random.getstate(), torch.get_rng_state().tolist(), torch.is_grad_enabled(),
            torch.get_num_threads())
before = world()
import hookloop
for name in hookloop.__all__: getattr(hookloop, name)
for owners in hookloop.available().values(): owners[0].load()
after = world()
assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]]
"""
    modules_after(script)
