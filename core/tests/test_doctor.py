"""``hookloop doctor``: what it finds in an environment, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from hookloop.doctor import is_too_old
from hookloop.outside import VARIABLES, Finding, examine

GOOD = """
    from hookloop import Callback

    class Good(Callback):
        hook_api = 1

        def on_train_begin(self):
            pass
"""


def install(
    place: Path,
    distribution: str,
    entry: str,
    text: str = "",
    *,
    needs: tuple[str, ...] = (),
    group: str = "hookloop.callbacks",
    metadata: bool = True,
) -> None:
    """Make what pip leaves behind: metadata with one entry point, and one module."""
    info = place / f"{distribution.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
    if metadata:
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", "Version: 1.5"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
    module = entry.partition("=")[2].partition(":")[0].strip()
    (place / f"{module}.py").write_text(textwrap.dedent(text))


def doctor(place: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a folder of further distributions, and no settings from outside."""
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "hookloop.cli", "doctor", *words],
        env={**kept, "PYTHONPATH": str(place), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def found(place: Path, **environment: str) -> list[dict[str, Any]]:
    """What is broken, or to be known, but for the folder that the tests put on the path."""
    done = doctor(place, "--json", **environment)
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    assert done.returncode == int(any(one["broken"] for one in findings)), done.stderr
    return [one for one in findings if not one["what"].startswith("PYTHONPATH=")]


def test_a_sound_environment_is_said_to_be_one(tmp_path: Path) -> None:
    """With what was seen of Python and torch; the exit status is 0."""
    install(tmp_path, "hookloop-good", "good = good:Good", GOOD, needs=("hookloop>=0.1",))
    done = doctor(tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    import torch

    assert f"\ntorch {torch.__version__}, built for " in done.stdout
    assert done.stdout.endswith("\nNothing is broken.\n")
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        pytest.param(
            "raise RuntimeError('no')",
            "cannot be imported: RuntimeError: no",
            "pip install --upgrade hookloop-bad",
            id="raises",
        ),
        pytest.param(
            "import not_there",
            "cannot be imported: ModuleNotFoundError",
            "pip install not_there (the missing module)",
            id="lacks a module",
        ),
        pytest.param(
            "import os; os._exit(7)",
            "ends the process that imports it, with status 7",
            "pip install --upgrade hookloop-bad, or tell its authors",
            id="ends the process",
        ),
        pytest.param(
            GOOD.replace("Good", "Bad").replace("hook_api = 1", "hook_api = 99"),
            "needs hook API 99; this hookloop offers 1",
            "pip install --upgrade hookloop, or install an older version",
            id="newer hook API",
        ),
    ],
)
def test_a_plugin_that_is_broken_is_found(text: str, what: str, fix: str, tmp_path: Path) -> None:
    """Whatever its import does, the doctor lives, and says what to do about that one alone."""
    install(tmp_path, "hookloop-bad", "bad = bad:Bad", text)
    install(tmp_path, "hookloop-good", "good = good:Good", GOOD)
    (finding,) = found(tmp_path)

    assert (finding["about"], finding["broken"]) == ("plugin", True)
    assert finding["what"].startswith("The callback 'bad' of hookloop-bad 1.5 (bad:Bad)")
    assert what in finding["what"]
    assert finding["fix"].startswith(fix)


def test_a_plugin_that_is_never_imported_to_the_end_is_found(tmp_path: Path) -> None:
    """An endless import costs the time that was granted, and no more."""
    install(tmp_path, "hookloop-bad", "bad = bad:Bad", "while True: pass")
    done = doctor(tmp_path, "--json", "--timeout", "20")

    whats = [one["what"] for one in json.loads(done.stdout)["findings"] if one["broken"]]
    assert any("was not imported within 20 seconds" in what for what in whats)


def test_two_owners_of_a_name_are_found(tmp_path: Path) -> None:
    """With the ways to name each."""
    install(tmp_path, "acme-good", "good = good:Good", GOOD)
    install(tmp_path, "zeta-good", "Good = other_good:Good", GOOD)
    (finding,) = found(tmp_path)

    assert finding == {
        "about": "clash",
        "what": "The callback 'good' is provided by acme-good 1.5 and zeta-good 1.5.",
        "fix": "uninstall one of them, or write acme-good/good or zeta-good/Good",
        "broken": True,
    }


def test_two_owners_of_a_module_or_a_command_are_found(tmp_path: Path) -> None:
    """One of the modules is no longer what its distribution installed."""
    install(tmp_path, "acme-good", "good = good:Good", GOOD)
    install(tmp_path, "zeta-good", "better = good:Good", GOOD)
    for who in ("one-command", "two-command"):
        install(tmp_path, who, f"go = {who[:3]}:main", group="hookloop.commands")

    assert [one["what"] for one in found(tmp_path)] == [
        "acme-good and zeta-good both bring the module good: one has overwritten the other.",
        "The command 'go' is provided by one-command 1.5 and two-command 1.5.",
    ]


@pytest.mark.parametrize(
    ("need", "what", "fix"),
    [
        pytest.param(
            "hookloop>=99",
            "hookloop-good needs hookloop>=99; installed is {}. It is too old.",
            "pip install --upgrade hookloop",
            id="core too old",
        ),
        pytest.param(
            "hookloop<0.0.1",
            "hookloop-good needs hookloop<0.0.1; installed is {}. hookloop-good was not made for "
            "it.",
            "pip install --upgrade hookloop-good",
            id="core too new",
        ),
        pytest.param(
            "not-there>=2",
            "hookloop-good needs not-there>=2, which is not installed.",
            'pip install "not-there>=2"',
            id="missing",
        ),
    ],
)
def test_a_requirement_that_does_not_hold_is_found(
    need: str, what: str, fix: str, tmp_path: Path
) -> None:
    """Which side is too old decides what is to be upgraded."""
    from hookloop import __version__

    install(tmp_path, "hookloop-good", "good = good:Good", GOOD, needs=(need,))
    (finding,) = found(tmp_path)

    assert (finding["about"], finding["broken"]) == ("requirement", True)
    assert (finding["what"], finding["fix"]) == (what.format(__version__), fix)


def test_a_requirement_of_an_extra_is_not_missed(tmp_path: Path) -> None:
    """What only somebody's tests need, nobody else has to have."""
    need = 'not-there>=2; extra == "test"'
    install(tmp_path, "hookloop-good", "good = good:Good", GOOD, needs=(need,))

    assert found(tmp_path) == []


def test_damaged_metadata_are_found(tmp_path: Path) -> None:
    """An installation that was cut short."""
    install(tmp_path, "hookloop-good", "good = good:Good", GOOD, metadata=False)
    (finding,) = found(tmp_path)

    assert finding["what"] == "The metadata of hookloop_good are damaged: they tell no version."
    assert finding["fix"] == "pip install --force-reinstall hookloop_good"


def test_a_broken_torch_is_a_finding_and_no_traceback(tmp_path: Path) -> None:
    """As after an installation that was cut short, or with a library missing."""
    (tmp_path / "torch.py").write_text("raise OSError('libcudart is missing')")
    what = [one for one in found(tmp_path) if one["about"] == "torch"]

    assert [one["what"] for one in what] == [
        "torch cannot be imported: OSError: libcudart is missing"
    ]


def told(**environment: str) -> list[Finding]:
    return list(examine(environment))


def test_nothing_from_outside_is_nothing_to_say() -> None:
    """Variables that are empty, or say what is so anyway, are none."""
    assert told(OMP_NUM_THREADS="", WORLD_SIZE="1", HOME="/home/ada") == []


def test_callbacks_from_outside_are_told_without_their_settings() -> None:
    """A setting may hold a password."""
    (finding,) = told(HOOKLOOP_CALLBACKS="+history:name=secret")

    assert finding == Finding(
        "environment",
        "HOOKLOOP_CALLBACKS adds history to every run.",
        "unset HOOKLOOP_CALLBACKS",
        broken=False,
    )


def test_a_callback_from_outside_that_is_not_installed_stops_every_run() -> None:
    """So it is broken, not only to be known."""
    (finding,) = told(HOOKLOOP_CALLBACKS="no_such_thing")

    assert finding.broken
    assert finding.what.startswith(
        "HOOKLOOP_CALLBACKS stops every run: No callback 'no_such_thing' is installed."
    )


@pytest.mark.parametrize(
    ("environment", "what", "broken"),
    [
        ({"HOOKLOOP_DISABLE": "history"}, "HOOKLOOP_DISABLE removes history", False),
        ({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}, "torch.load runs the code", False),
        (
            {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "yes"},
            "torch.load refuses every file",
            True,
        ),
        ({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}, None, False),
        ({"WORLD_SIZE": "2"}, "Trainer refuses to be one of several", True),
        *[({name: "1"}, f"{name}=1: {meaning}.", False) for name, meaning in VARIABLES.items()],
    ],
)
def test_a_variable_that_changes_a_run_is_told(
    environment: dict[str, str], what: str | None, broken: bool
) -> None:
    """With the line that takes it away."""
    findings = told(**environment)

    assert [what in finding.what for finding in findings] == ([] if what is None else [True])
    assert all(finding.broken == broken for finding in findings)
    assert all(finding.fix.startswith("unset ") for finding in findings)


def test_every_finding_is_printed_with_its_fix(tmp_path: Path) -> None:
    """What is broken comes first, and is counted."""
    install(tmp_path, "hookloop-bad", "bad = bad:Bad", "raise RuntimeError('no')")
    done = doctor(tmp_path, OMP_NUM_THREADS="1")

    assert done.returncode == 1
    _, broken, *known, count = done.stdout.strip().split("\n\n")
    assert broken == (
        "broken: The callback 'bad' of hookloop-bad 1.5 (bad:Bad) cannot be imported: "
        "RuntimeError: no\nfix: pip install --upgrade hookloop-bad"
    )
    assert [line.split("\nfix: ")[1] for line in known] == [
        "unset OMP_NUM_THREADS, unless you want that",
        "unset PYTHONPATH, unless you want that",
    ]
    assert count == "1 broken"


@pytest.mark.parametrize(
    ("requirement", "version", "old"),
    [
        ("hookloop>=0.2,<0.3", "0.1.4", True),
        ("hookloop>=0.2,<0.3", "0.3.0", False),
        ("hookloop~=1.4", "1.3", True),
        ("hookloop==0.2.*", "0.1.0", True),
        ("hookloop==0.2.*", "0.3.0", False),
        ("hookloop>0.1", "0.1", True),
        ("hookloop<2", "3", False),
    ],
)
def test_which_side_a_version_is_off(requirement: str, version: str, old: bool) -> None:
    """Below the range core is to be upgraded; above it, the plugin is."""
    assert is_too_old(Requirement(requirement), version) == old
