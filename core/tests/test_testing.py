"""What the kit gives to authors: suite, tiny loop, recorder, faults, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from hookloop import Callback, CallbackList, files, hookspec, hookspecs
from hookloop.cli import main
from hookloop.errors import ArgumentError, FileError, SettingError
from hookloop.testing import CallbackSuite, Kit, Recorder, Subject, TinyLoop, faults
from hookloop.testing.kit import checks
from hookloop.testing.restarting import EPOCHS

MODULE = """
from typing import ClassVar

from hookloop import Callback


class Halves(Callback):
    changes = ("optimizer",)

    def __init__(self, rate: float) -> None:
        if not rate > 0:
            raise ValueError(rate)
        self.rate = rate

    def on_epoch_end(self):
        self.loop.set_lr(self.rate)


class Draws(Callback):
    def on_epoch_end(self):
        import random

        random.random()


class Patient(Callback):
    def on_train_begin(self):
        self.best, self.wait = float("inf"), 0

    def on_epoch_end(self, logs):
        self.wait = 0 if logs.get("val_loss", 0) < self.best else self.wait + 1
        self.best = min(self.best, logs.get("val_loss", 0))
        if self.wait == 5:
            self.loop.stop("no better for 5 epochs")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with callbacks in a module, from which they can be imported."""
    (tmp_path / "unpackaged.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "unpackaged", raising=False)
    return tmp_path


# -- the suite -------------------------------------------------------------------------------


def pytest_on(folder: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a file of tests, in a process of its own, as an author does."""
    text = f"from hookloop.testing import CallbackSuite\n\n{body}"
    (folder / "test_mine.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    command += options
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_suite_has_a_test_for_each_check_and_says_how_many(module: Path) -> None:
    """And those that the class declares not to keep are not among them."""
    ran = pytest_on(
        module,
        "class TestHalves(CallbackSuite):\n"
        "    name = 'unpackaged:Halves'\n"
        "    settings = {'rate': 0.5}\n",
    )
    asked = len(Kit(Subject("unpackaged:Halves")).applicable())
    assert ran.returncode == 0, ran.stdout
    assert f"TestHalves: {asked} checks of unpackaged:Halves: {asked} passed" in ran.stdout
    assert f"{asked} passed in" in ran.stdout


def test_an_expected_failure_that_fails_is_let_pass_and_one_that_passes_fails(
    module: Path,
) -> None:
    """Strict: the list of what is known to be wrong cannot go stale."""
    ran = pytest_on(
        module,
        "class TestDraws(CallbackSuite):\n"
        "    name = 'unpackaged:Draws'\n"
        "    expected_failures = {\n"
        "        'leaves_random_numbers_alone': 'it draws',\n"
        "        'pickles': 'it does not',\n"
        "    }\n",
    )
    assert ran.returncode == 1
    assert "1 xfailed" in ran.stdout
    assert "[XPASS(strict)] it does not" in ran.stdout
    assert "1 failed" in ran.stdout


def test_an_unknown_expected_failure_is_refused() -> None:
    """With the one that may have been meant."""
    with pytest.raises(ArgumentError, match=r"no check 'pickels' .* Did you mean 'pickles'"):
        type("TestWrong", (CallbackSuite,), {"expected_failures": {"pickels": "typo"}})


def test_an_expected_failure_of_a_check_that_is_not_asked_is_refused(module: Path) -> None:
    """It could never fail."""
    ran = pytest_on(
        module,
        "class TestHalves(CallbackSuite):\n"
        "    name = 'unpackaged:Halves'\n"
        "    settings = {'rate': 0.5}\n"
        "    expected_failures = {'leaves_the_optimizer_alone': 'declared already'}\n",
    )
    assert ran.returncode != 0
    assert "leaves_the_optimizer_alone is not asked of" in ran.stdout


def test_what_cannot_be_checked_fails_as_blocked(module: Path) -> None:
    """Here without the setting that it needs, so that no instance can be made."""
    ran = pytest_on(module, "class TestHalves(CallbackSuite):\n    name = 'unpackaged:Halves'\n")
    assert ran.returncode == 1
    assert "can_be_made: SettingError: Halves needs the setting 'rate'" in ran.stdout
    assert "CheckBlocked: blocked: it cannot be made while can_be_made fails" in ran.stdout
    assert "1 failed, " in ran.stdout
    assert " blocked\n" in ran.stdout


def test_settings_can_be_made_for_each_folder(module: Path) -> None:
    """By an override, which sees what the fixtures of its class have set up."""
    ran = pytest_on(
        module,
        "import pytest\n"
        "class TestHalves(CallbackSuite):\n"
        "    name = 'unpackaged:Halves'\n"
        "    @pytest.fixture(autouse=True)\n"
        "    def prepared(self): self.rate = 0.25\n"
        "    def make_settings(self, folder):\n"
        "        assert not list(folder.iterdir())\n"
        "        return {'rate': self.rate}\n",
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("call", "told"),
    [("skip('no server here')", "1 skipped"), ("exit('enough', 0)", "Exit: enough")],
    ids=["skip", "exit"],
)
def test_what_is_for_pytest_is_no_finding(module: Path, call: str, told: str) -> None:
    """A test that skips itself, or ends the session, does so from within a check too."""
    ran = pytest_on(
        module,
        "import pytest\n"
        "class TestHalves(CallbackSuite):\n"
        "    name = 'unpackaged:Halves'\n"
        f"    def make_settings(self, folder): pytest.{call}\n",
        "-k",
        "can_be_made",
    )
    assert told in ran.stdout
    assert "failed" not in ran.stdout


@pytest.mark.parametrize(
    ("declared", "told"),
    [({"changes": ("modle",)}, "'model'"), ({"per_batch": ("read",)}, "'reads'")],
    ids=["changes", "per_batch"],
)
def test_a_flag_that_does_not_exist_is_refused(declared: dict[str, str], told: str) -> None:
    """Or a misspelt one would switch nothing off, and nobody would know."""
    with pytest.raises(SettingError, match=f"Did you mean {told}"):
        Subject("early_stopping", **declared)


def test_patience_that_a_restart_forgets_is_found(module: Path) -> None:
    """Though no training of the kit is so long, and the class has no state_dict()."""
    found = Kit(Subject("unpackaged:Patient")).result("resumes_exactly")
    assert found.status == "failed"
    assert "wait is 2, then 1" in found.message
    assert "save it in state_dict()" in found.message


def test_the_training_that_is_resumed_gets_better_and_then_worse() -> None:
    """So that what counts either moves, on both sides of the save."""
    first, second, third, fourth = TinyLoop(epochs=EPOCHS).fit().history["val_loss"]
    assert first > second
    assert second < third < fourth


def test_a_constructor_that_takes_what_the_suite_refuses_is_found() -> None:
    """What the author knows to make no sense is tried too."""
    kit = Kit(Subject("early_stopping", refused=({"patience": 5},)))
    assert kit.result("constructor_validates").status == "failed"
    assert "accepts patience=5" in kit.result("constructor_validates").message


LEAVINGS = {
    "threads (Thread-": "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "signal handlers (": "signal.signal(signal.SIGUSR1, lambda *_: None)",
    "processes (a child)": "subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)",
    "open files (": "os.open(os.devnull, os.O_RDONLY)",
    "environment variables (yes)": "os.environ.update(LEFT='yes')",
    "hooks of sys (": "setattr(sys, 'excepthook', lambda *_: None)",
    "logging (": "logging.root.addHandler(logging.NullHandler())",
    "the current folder (": "os.chdir(os.sep)",
    "warning filters (": "warnings.simplefilter('ignore')",
}


def test_whatever_is_left_behind_is_found(tmp_path: Path) -> None:
    """In a process of its own, which is spoilt by it."""
    script = (
        "import logging, os, signal, subprocess, sys, threading, time, warnings\n"
        "from hookloop import Callback\n"
        "from hookloop.testing import TinyLoop, tidiness\n"
        "class Leaves(Callback):\n"
        "    def __init__(self, what): self.what = what\n"
        "    def on_train_begin(self): exec(self.what, globals())\n"
        "tidiness.PATIENCE = 0.01\n"
        "TinyLoop().fit()\n"
        f"for what in {list(LEAVINGS.values())!r}:\n"
        "    print(*tidiness.left_open(lambda: TinyLoop().fit([Leaves(what)])))\n"
        "os._exit(0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-u", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == len(LEAVINGS), ran.stderr
    wrong = [pair for pair in zip(LEAVINGS, lines, strict=True) if pair[0] not in pair[1]]
    assert wrong == []


# -- the tiny loop ----------------------------------------------------------------------------


def test_two_tiny_loops_are_equal_to_the_last_bit() -> None:
    """Whatever was drawn before, and drawing nothing from the outside."""
    before = torch.get_rng_state()
    first = TinyLoop()
    assert torch.equal(torch.get_rng_state(), before)
    one = first.fit()
    torch.rand(3)
    other = TinyLoop().fit()
    assert one.history == other.history
    assert list(one.history) == ["loss", "mae", "val_loss", "val_mae"]


def test_a_tiny_loop_trains_evaluates_and_predicts() -> None:
    """Its options are those that the odd cases need."""
    tiny = TinyLoop(samples=8, batch_size=4, nan=True, validation=False)
    assert list(tiny.fit().history) == ["loss", "mae"]
    assert tiny.evaluate()["loss"] != tiny.evaluate()["loss"]  # NaN
    assert tiny.predict().shape == (8, 1)
    assert [len(x) for x, _ in tiny.batches()] == [4, 4]


def test_a_disturbed_random_number_changes_the_weights_of_a_tiny_loop() -> None:
    """Which is why it has dropout."""

    class Draws(Callback):
        def on_epoch_end(self) -> None:
            torch.rand(1)

    plain, disturbed = TinyLoop(), TinyLoop()
    plain.fit()
    disturbed.fit([Draws()])
    assert not torch.equal(plain.model[0].weight, disturbed.model[0].weight)


# -- the recorder -------------------------------------------------------------------------------


def test_the_recorder_writes_down_hooks_and_arguments() -> None:
    """A line a call, in the order of the loop."""
    recorder = Recorder()
    TinyLoop(epochs=1, samples=4).fit([recorder])
    assert recorder.transcript() == [
        "on_train_begin logs=-",
        "on_epoch_begin epoch=0 logs=-",
        "on_train_batch_begin batch=0 logs=size",
        "on_before_optimizer_step optimizer=SGD logs=size,loss,mae",
        "on_train_batch_end batch=0 logs=size,loss,mae",
        "on_batch_checkpoint batch=0 logs=size,loss,mae",
        "on_test_begin logs=-",
        "on_test_batch_begin batch=0 logs=size",
        "on_test_batch_end batch=0 logs=size,loss,mae",
        "on_test_end logs=loss,mae",
        "on_epoch_end epoch=0 logs=loss,mae,val_loss,val_mae",
        "on_epoch_checkpoint epoch=0 logs=loss,mae,val_loss,val_mae",
        "on_train_end logs=loss,mae,val_loss,val_mae",
    ]


def test_the_recorder_has_every_hook_of_the_specifications() -> None:
    """One that is added there is recorded without a change here."""
    assert set(hookspecs.names()) <= set(vars(Recorder))


def test_the_recorder_keeps_logs_as_they_were() -> None:
    """What others add later is not in it."""
    recorder = Recorder()
    callbacks = CallbackList([recorder], model=None)
    callbacks.on_train_begin()
    logs = {"loss": 1.0}
    callbacks.on_epoch_end(0, logs)
    logs["loss"] = 2.0
    assert recorder.of("on_epoch_end") == [{"epoch": 0, "logs": {"loss": 1.0}}]


def test_the_recorder_records_hooks_that_plugins_bring() -> None:
    """It is told where they are specified."""

    class Specs:
        @hookspec
        def on_spike(self, loop, loss):
            """The loss jumped up."""

    class Announces(Callback):
        hookspecs = Specs

        def on_epoch_end(self, loop):
            loop.call("on_spike", loss=3.0)

    recorder = Recorder(Specs)
    callbacks = CallbackList([Announces(), recorder], model=None)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {})
    assert recorder.of("on_spike") == [{"loss": 3.0}]


# -- the faults ---------------------------------------------------------------------------------


def test_a_failing_callback_fails_in_the_call_that_was_asked_for() -> None:
    """The second end of an epoch, and whoever sees it can tell that it was planted."""
    recorder = Recorder()
    with pytest.raises(faults.Planted, match="planted in on_epoch_end"):
        TinyLoop(epochs=3).fit([recorder, faults.FailingCallback("on_epoch_end", 1)])
    assert recorder.hooks.count("on_epoch_begin") == 2
    assert recorder.hooks[-2:] == ["on_exception", "on_train_end"]


def test_a_failing_callback_refuses_what_is_no_hook() -> None:
    """Or a test would wait for a failure that never comes."""
    with pytest.raises(SettingError, match="Did you mean 'on_epoch_end'"):
        faults.FailingCallback("on_epoch_ends")


def test_on_a_full_disk_nothing_is_written(tmp_path: Path) -> None:
    """And afterwards there is room again."""
    with faults.full_disk(), pytest.raises(FileError, match="No space left"):
        files.atomic_write(tmp_path / "a.txt", b"text")
    assert not list(tmp_path.iterdir())
    files.atomic_write(tmp_path / "a.txt", b"text")
    with faults.full_disk(lambda path: path.name.startswith(".b.txt")):
        files.atomic_write(tmp_path / "c.txt", b"text")
        with pytest.raises(FileError):
            files.atomic_write(tmp_path / "b.txt", b"text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "c.txt"]


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
def test_a_dead_server_does_not_answer(silent: bool) -> None:
    """It refuses connections, or takes them and says nothing."""
    with faults.dead_server(silent=silent) as address, pytest.raises(OSError) as failed:
        urllib.request.urlopen(address, timeout=0.2)
    refused = isinstance(getattr(failed.value, "reason", None), ConnectionRefusedError)
    assert refused is not silent


def test_a_process_is_killed_where_it_says() -> None:
    """Nothing after that line is executed, no clean-up either."""
    script = (
        "import atexit, sys\natexit.register(print, 'cleaned up')\n"
        "print('one')\nprint('here')\nsys.stdin.read()\n"
    )
    began = time.monotonic()
    assert faults.killed(script, "here") == ["one", "here"]
    assert time.monotonic() - began < 60


def test_a_process_that_never_says_so_is_told_of() -> None:
    """With what it said instead."""
    with pytest.raises(AssertionError, match="ended without printing 'here':\nthere"):
        faults.killed("print('there')", "here")


# -- the command ----------------------------------------------------------------------------------


def test_check_tells_what_passed_and_what_to_mend(
    module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its exit status says whether anything is."""
    assert main(["check", "unpackaged:Draws"]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("unpackaged:Draws\n  passed   imports_lightly\n")
    assert "  FAILED   leaves_random_numbers_alone\n" in shown
    assert "It changes the random numbers in on_epoch_end.\n           fix: leave it" in shown
    assert shown.splitlines()[-1].endswith(" passed, 1 failed")


def test_check_prints_json(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With settings as they are typed everywhere else, and all checks by name."""
    assert main(["check", "--json", "unpackaged:Halves:rate=0.5"]) == 0
    [report] = json.loads(capsys.readouterr().out)
    counts = [report[status] for status in ("passed", "failed", "blocked")]
    assert counts == [len(report["checks"]), 0, 0]
    assert {one["name"] for one in report["checks"]} < {one.name for one in checks()}


def test_check_reports_what_is_blocked_and_fails(
    module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the setting that it needs, next to nothing can be checked."""
    assert main(["check", "--json", "unpackaged:Halves"]) == 1
    [report] = json.loads(capsys.readouterr().out)
    assert report["failed"] == 1
    assert report["blocked"] > report["passed"]


def test_check_finds_a_folder_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default the current one; here a package of one module and a pyproject."""
    (tmp_path / "draws.py").write_text(MODULE)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "draws-a-lot"\nversion = "3.1"\n'
        '[project.entry-points."hookloop.callbacks"]\ndraws = "draws:Draws"\n'
    )
    monkeypatch.chdir(tmp_path)
    places = list(sys.path)
    assert main(["check"]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("draws  (draws-a-lot 3.1)\n  passed   discoverable\n")
    assert "FAILED   readme_examples_run" in shown
    assert sys.path == places
    assert "draws" not in sys.modules


def test_check_refuses_what_is_neither_a_name_nor_a_plugins_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, and what to do."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert main(["check", "early_stoping"]) == 2
    assert main(["check", str(tmp_path)]) == 2
    assert main(["check", str(tmp_path.parent)]) == 2
    told = capsys.readouterr().err
    assert "Did you mean 'early_stopping'" in told
    assert "offers no callback" in told
    assert "has no pyproject.toml" in told
    assert told.count("fix: ") == 3


def test_the_kit_needs_no_pytest_but_for_the_suite() -> None:
    """So that the command works where only hookloop is installed."""
    script = (
        "import sys; sys.modules['pytest'] = None\n"
        "from hookloop.testing import Kit, Recorder, Subject, TinyLoop, faults\n"
        "from hookloop.cli import main\n"
        "sys.exit(main(['check', 'history']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
