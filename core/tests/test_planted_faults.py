"""Every check of the kit fails on its own fault, on no other, and says what it could not check.

Each fault is planted into a package that passes every check, and that is not installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hookloop.cli import main
from hookloop.testing.folder import offered
from hookloop.testing.hosts import HOSTS
from hookloop.testing.kit import Kit, checks
from hookloop.testing.subject import Subject

SOUND = '''
"""loss_probe: an observer that keeps every promise."""
from typing import Literal

from hookloop import Callback
from hookloop.errors import SettingError
{top}

class LossProbe(Callback):
    observer = {observer}
    shared = 0

    def __init__(self, way: Literal["up", "down"] = "up", scale: float = 1.0{setting}) -> None:
        if way not in ("up", "down") or not scale > 0:
            raise SettingError(f"way={{way}}, scale={{scale}} make no sense.", fix="up, and 1.0")
        self.way = way
        self.scale = scale
        self.count = self.unsaved = 0
        {made}

    def on_train_begin(self, logs=None):
        {reset}
        {train_begin}

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        {batch_end}

    def on_epoch_end(self, epoch, logs=None):
        {epoch_end}

    def on_predict_end(self, logs=None):
        {predict_end}

    def on_train_end(self, logs=None):
        {train_end}

    def {hook}(self, logs=None):
        pass

    def state_dict(self):
        return {{"count": self.count}}

    def load_state_dict(self, state):
        self.count = state["count"]
        {restored}
'''
PROJECT = """
[project]
name = "hookloop-loss-probe"
version = "0.1.0"
readme = "README.md"

[project.entry-points."hookloop.callbacks"]
{name} = "hookloop_loss_probe:LossProbe"
"""
README = """
```python
import hookloop

print(hookloop.load("{name}").scale)
```

```output
{printed}
```
"""
DEFAULTS = {
    "name": "loss_probe",
    "printed": "1.0",
    "top": "",
    "observer": "True",
    "setting": "",
    "made": "pass",
    "reset": "self.count = self.unsaved = 0",
    "train_begin": "pass",
    "batch_end": "pass",
    "epoch_end": "pass",
    "predict_end": "pass",
    "train_end": "pass",
    "hook": "on_test_begin",
    "restored": "pass",
}
#: For each check a package that breaks its promise, and no other.
FAULTS: dict[str, dict[str, str]] = {
    "discoverable": {"name": "LossProbe"},
    "imports_lightly": {"top": "import PIL.Image"},
    "imports_without_effects": {"top": "print('thank you for using loss_probe')"},
    "can_be_made": {"made": "raise ValueError('never')"},
    "constructor_validates": {"setting": ", **anything: object"},
    "hooks_are_valid": {"hook": "on_test_begins"},
    "keeps_settings": {"epoch_end": "self.scale *= 2"},
    "pickles": {"top": "import threading", "made": "self.lock = threading.Lock()"},
    **{
        "runs_in_" + re.sub("(?<=[a-z])(?=[A-Z])", "_", host).lower(): {
            "train_begin": f"if self.loop.host == {host!r}: raise RuntimeError('not here')"
        }
        for host in HOSTS
    },
    "is_deterministic": {"top": "import time", "batch_end": "self.count += time.perf_counter()"},
    "runs_twice": {"reset": "pass"},
    "runs_beside_another": {
        "train_begin": "type(self).shared = 0",
        "batch_end": "type(self).shared += 1; self.count = self.shared",
        "restored": "type(self).shared = self.count",
    },
    "zero_batches": {"epoch_end": "logs['loss'] / self.count"},
    "one_batch": {"batch_end": "batch / ((self.params['steps'] or 2) - 1)"},
    "no_validation": {"epoch_end": "'loss' in logs and logs['val_loss']"},
    "nan_metrics": {"epoch_end": "int(logs.get('loss', 0))"},
    "closes_everything": {
        "top": "import os",
        "train_begin": "self.descriptor = os.open(os.devnull, os.O_RDONLY)",
    },
    "closes_after_an_exception": {
        "top": "import os",
        "train_begin": "self.descriptor = os.open(os.devnull, os.O_RDONLY)",
        "train_end": "if self.loop.outcome == 'finished': os.close(self.descriptor)",
    },
    "state_round_trips": {"restored": "state.clear()"},
    "resumes_exactly": {
        "epoch_end": "self.unsaved += 1",
        "train_end": "self.count += self.unsaved",
    },
    "leaves_the_model_alone": {"train_end": "self.model[0].bias.data.add_(1)"},
    "leaves_the_optimizer_alone": {"train_end": "self.loop.set_lr(0.5)"},
    "leaves_random_numbers_alone": {"top": "import random", "epoch_end": "random.random()"},
    "leaves_logs_alone": {"epoch_end": "logs['probe'] = 1.0"},
    "observer_keeps_its_promise": {"epoch_end": "epoch == 1 and self.loop.stop('enough')"},
    "batch_hooks_read_nothing": {"batch_end": "logs['loss']"},
    "batch_hooks_allocate_nothing": {"batch_end": "self.model[0].weight.detach().clone()"},
    "readme_examples_run": {"printed": "2.0"},
}
#: More of them, each for a check that once did not see it.
FURTHER: dict[str, tuple[str, dict[str, str]]] = {
    "unsaved_when_stopped_in_the_first_batch": (
        "resumes_exactly",
        {
            "observer": "False",
            "batch_end": "self.unsaved += 1; self.loop.stop('enough')",
            "train_end": "self.count += self.unsaved",
        },
    ),
    "open_when_stopped_in_the_first_batch": (
        "closes_after_an_exception",
        {
            "observer": "False",
            "top": "import os",
            "train_begin": "self.descriptor = os.open(os.devnull, os.O_RDONLY)",
            "batch_end": "self.loop.stop('enough')",
            "train_end": "self.loop.outcome == 'interrupted' or os.close(self.descriptor)",
        },
    ),
    "text_for_a_number": (
        "constructor_validates",
        {"setting": ", patience: int | None = 3", "made": "self.patience = patience"},
    ),
    "count_that_matters_in_longer_runs_only": (
        "resumes_exactly",
        {
            "observer": "False",
            "epoch_end": "self.unsaved += 1; self.unsaved > 20 and self.loop.stop('enough')",
        },
    ),
    "best_value_in_a_monitor": (
        "resumes_exactly",
        {
            "top": "from hookloop.monitor import Monitor",
            "reset": "self.count = 0; self.best = Monitor('val_loss'); self.best.start()",
            "epoch_end": "'val_loss' in logs and self.best.improved(logs['val_loss'])",
        },
    ),
    "count_in_an_object_of_its_own": (
        "resumes_exactly",
        {
            "top": "class Counts:\n    def __init__(self): self.epochs = 0\n",
            "reset": "self.count = 0; self.counts = Counts()",
            "epoch_end": "self.counts.epochs += 1",
        },
    ),
    "rows_written_twice": (
        "resumes_exactly",
        {"batch_end": "with open('rows.txt', 'a') as file: print(batch, file=file)"},
    ),
    "number_in_a_file_that_is_not_saved": (
        "resumes_exactly",
        {
            "top": "import json, pathlib",
            "epoch_end": "self.unsaved += 1",
            "train_end": "pathlib.Path('end.json').write_text(json.dumps({'n': self.unsaved}))",
        },
    ),
    "times_in_a_file": (
        "is_deterministic",
        {
            "top": "import json, pathlib, time",
            "train_end": "pathlib.Path('end.json').write_text(json.dumps({'t': time.time_ns()}))",
        },
    ),
    "rows_of_another_run": (
        "runs_beside_another",
        {
            "top": "from pathlib import Path",
            "setting": ", path: str | Path = 'rows.txt'",
            "made": "self.path = path",
            "train_begin": "type(self).shared = self.path",
            "train_end": "open(self.shared, 'w').close()",
        },
    ),
}


@dataclass
class Planted:
    """A package with a fault, in a folder."""

    folder: Path

    def write(self, **parts: str) -> Path:
        parts = {**DEFAULTS, **parts}
        package = self.folder / "src" / "hookloop_loss_probe"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(SOUND.format(**parts))
        (self.folder / "pyproject.toml").write_text(PROJECT.format(**parts))
        (self.folder / "README.md").write_text(README.format(**parts))
        return self.folder


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path / "loss_probe")


def statuses(folder: Path) -> dict[str, str]:
    """Make every check; give those that did not pass."""
    with offered(folder) as names:
        results = list(Kit(Subject(names[0])).results())
    return {one.name: one.status for one in results if one.status != "passed"}


def relying_on(name: str) -> set[str]:
    """The checks that cannot be made while one fails, by way of others too."""
    found = {one.name for one in checks() if name in one.after}
    return found.union(*(relying_on(one) for one in found))


def test_the_sound_package_passes_every_check(planted: Planted) -> None:
    """All of them are asked of it, so that none is left out below."""
    folder = planted.write()
    with offered(folder):
        kit = Kit(Subject("loss_probe"))
        assert [one.name for one in kit.applicable()] == [one.name for one in checks()]
        assert [one.message for one in kit.results() if one.status != "passed"] == []
        assert kit.summary() == f"{len(checks())} checks of loss_probe: {len(checks())} passed"


def test_every_check_has_a_fault() -> None:
    """A check that is added needs one too."""
    assert [one.name for one in checks() if one.name not in FAULTS] == []
    assert set(FAULTS) <= {one.name for one in checks()}


@pytest.mark.reliability("E7")
@pytest.mark.parametrize("check", FAULTS)
def test_a_check_fails_on_its_own_fault(check: str, planted: Planted) -> None:
    """What relies on it is blocked, never passed; everything else passes."""
    found = statuses(planted.write(**FAULTS[check]))
    blocked = dict.fromkeys(relying_on(check), "blocked")
    assert found == {check: "failed", **blocked}


@pytest.mark.parametrize("fault", FURTHER)
def test_a_check_fails_on_what_it_once_did_not_see(fault: str, planted: Planted) -> None:
    """And again no other does."""
    check, parts = FURTHER[fault]
    found = statuses(planted.write(**parts))
    assert found == {check: "failed", **dict.fromkeys(relying_on(check), "blocked")}


def test_a_callback_that_stops_at_once_is_not_passed_unseen(planted: Planted) -> None:
    """Where a run has to come somewhere to be checked, the kit asks for other settings."""
    folder = planted.write(observer="False", train_begin="self.loop.stop('enough')")
    with offered(folder) as names:
        failed = [one for one in Kit(Subject(names[0])).results() if one.status == "failed"]
    assert [one.name for one in failed] == ["closes_after_an_exception", "resumes_exactly"]
    for one in failed:
        assert "so that nothing can be checked" in one.message
        assert one.message.endswith("fix: give settings under which it does not stop at once")


@pytest.mark.parametrize("hook", ["train_begin", "epoch_end", "train_end"])
def test_a_callback_that_exits_fails_and_does_not_end_the_checks(
    hook: str, planted: Planted
) -> None:
    """With a status of 0 the command would even look as if all had passed."""
    folder = planted.write(**{hook: "raise SystemExit(0)"})
    with offered(folder) as names:
        found = {one.name: one for one in Kit(Subject(names[0])).results()}
    assert list(found) == [one.name for one in checks()]
    for host in HOSTS:
        one = found["runs_in_" + re.sub("(?<=[a-z])(?=[A-Z])", "_", host).lower()]
        assert one.status == "failed"
        assert one.message.startswith("SystemExit: 0\n")
        assert "\nfix: " in one.message
    assert main(["check", str(folder)]) == 1


def test_a_module_that_exits_fails(planted: Planted) -> None:
    """As early as that."""
    assert main(["check", str(planted.write(top="raise SystemExit(0)"))]) == 1


def test_ctrl_c_ends_the_checks(planted: Planted) -> None:
    """It is the user's."""
    folder = planted.write(epoch_end="raise KeyboardInterrupt")
    with offered(folder) as names, pytest.raises(KeyboardInterrupt):
        Kit(Subject(names[0])).result("runs_in_trainer")


@pytest.mark.parametrize("varies", ["t", "end.json", "*.json"])
def test_what_varies_in_a_file_can_be_declared(varies: str, planted: Planted) -> None:
    """By its name in the file, where that is JSON, or for the file as a whole."""
    _, parts = FURTHER["times_in_a_file"]
    with offered(planted.write(**parts)) as names:
        kit = Kit(Subject(names[0], varies=[varies]))
        assert kit.result("is_deterministic").status == "passed"
        assert kit.result("resumes_exactly").status == "passed"


@pytest.mark.parametrize(
    "parts",
    [
        {"top": "import time", "epoch_end": "self.unsaved = time.perf_counter()"},
        {"epoch_end": "self.unsaved += 1", "train_end": "self.unsaved = 0"},
    ],
    ids=["a_time", "a_count_set_back"],
)
def test_what_a_restart_need_not_bring_back_is_let_pass(
    parts: dict[str, str], planted: Planted
) -> None:
    """What chance decides anyway, and what is for one process only, and gone after it."""
    assert statuses(planted.write(**parts)) == {}


def test_what_a_restart_need_not_bring_back_can_be_declared(planted: Planted) -> None:
    """By the name of the attribute."""
    with offered(planted.write(epoch_end="self.unsaved += 1")) as names:
        kit = Kit(Subject(names[0], varies=["unsaved"]))
        assert kit.result("resumes_exactly").status == "passed"
