"""Signals: a run ends in order, and the process as the signal asked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, Trainer, loaders

X = torch.linspace(-1, 1, 8).reshape(4, 2)
Y = X.sum(1, keepdim=True)

SCRIPT = """
import os, signal, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from hookloop import Callback, Trainer

X = torch.linspace(-1, 1, 8).reshape(4, 2)
Y = X.sum(1, keepdim=True)

class Tells(Callback):
{extra}
    def on_train_batch_end(self, batch):
        print("batch", self.loop.epoch, batch, flush=True)
        if (self.loop.epoch, batch) == (1, 1):
            {act}
    def on_batch_checkpoint(self, batch): print("checkpoint", self.loop.epoch, batch, flush=True)
    def on_epoch_end(self, epoch): print("epoch", epoch, flush=True)
    def on_exception(self, exception): print("exception", flush=True)
    def on_train_end(self): print("end", self.loop.outcome, flush=True)

trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu", seed=1{options})
data = {data}
try:
    trainer.fit(data, epochs=3, callbacks=Tells(), verbose=0)
finally:
    history = trainer.history
    print(history.epoch, history.outcome, history.stop_reason, flush=True)
"""
ARRAYS = "[(X[i : i + 1], Y[i : i + 1]) for i in range(4)]"
FIRST = [f"{what} 0 {batch}" for batch in range(4) for what in ("batch", "checkpoint")]
ORDER = [*FIRST, "epoch 0", "batch 1 0", "checkpoint 1 0", "batch 1 1", "checkpoint 1 1"]


def run(
    act: str, options: str = "", data: str = ARRAYS, extra: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the script in a process group of its own, which a signal may be sent to."""
    code = SCRIPT.format(act=act, options=options, data=data, extra=extra)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )


def test_sigterm_ends_the_run_in_order_and_exits_with_143():
    """The batch and its checkpoint hook run, no epoch end, no row for the cut epoch."""
    done = run("os.kill(os.getpid(), signal.SIGTERM)")
    assert done.stdout.splitlines() == [
        *ORDER,
        "end interrupted",
        "[0] interrupted signal 15",
    ]
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.reliability("D3")
def test_sigint_ends_the_run_in_order_and_raises_keyboard_interrupt():
    """The history is there for whoever catches it."""
    done = run("os.kill(os.getpid(), signal.SIGINT)")
    assert done.stdout.splitlines() == [*ORDER, "end interrupted", "[0] interrupted signal 2"]
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.returncode == -signal.SIGINT


@pytest.mark.reliability("D3")
def test_a_second_sigint_raises_at_once():
    """In the middle of the batch; everybody still sees the end."""
    done = run("os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT)")
    assert done.stdout.splitlines() == [
        *ORDER[:-1],
        "exception",
        "end interrupted",
        "[0] interrupted signal 2",
    ]
    assert done.returncode == -signal.SIGINT


#: From another process, as by a scheduler: workers let a signal of their own parent pass.
TO_ALL = (
    "import subprocess, multiprocessing; "
    "subprocess.run(['kill', '-{}', '--', '-%d' % os.getpgrp()], start_new_session=True); "
    "[one.join(0.5) for one in multiprocessing.active_children()]; "
    "print('workers', len(multiprocessing.active_children()), flush=True)"
)
LOADER = "DataLoader(TensorDataset(X, Y), 1, num_workers={}, multiprocessing_context={!r})"


@pytest.mark.reliability("D7")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_signal_to_the_process_group_leaves_loader_workers_alone(start):
    """As a scheduler sends it: the workers ignore it, so the batch can be finished."""
    done = run(TO_ALL.format("TERM"), data=LOADER.format(2, start))
    told = [*ORDER[:-1], "workers 2", ORDER[-1]]
    assert done.stdout.splitlines() == [*told, "end interrupted", "[0] interrupted signal 15"]
    assert (done.returncode, done.stderr) == (143, "")


def test_signals_are_let_through_again_where_workers_cannot_be_started(monkeypatch):
    """A process that stayed deaf to Ctrl+C could not be left."""

    def fails():
        raise OSError("no more processes")

    monkeypatch.setattr(loaders.resource_tracker, "ensure_running", fails)
    data = TensorDataset(torch.zeros(2, 1))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(OSError, match="no more processes"):
        loaders.begin(DataLoader(data, num_workers=1, multiprocessing_context="spawn"))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.reliability("D2", "D7")
def test_workers_ignore_what_a_run_saves_at():
    """SIGUSR1 to the process group: nobody saves but the run, which goes on.

    Spawned ones, as those that are forked inherit the run's handler, which does no harm in them.
    """
    act, data = TO_ALL.format("USR1"), LOADER.format(1, "spawn")
    done = run(act, data=data, extra="    save_signals = (signal.SIGUSR1,)")
    assert done.stdout.splitlines()[-2:] == ["end finished", "[0, 1, 2] finished None"]
    assert "workers 1" in done.stdout
    assert done.stdout.count("batch ") == 12
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.reliability("D2")
def test_sigusr1_is_left_alone_where_nobody_asks_for_it():
    """It ends the process, as it does without us."""
    assert run("os.kill(os.getpid(), signal.SIGUSR1)").returncode == -signal.SIGUSR1


class Sends(Callback):
    """Sends a signal to this process at one hook, and notes what follows."""

    def __init__(self, number, hook="on_train_batch_end"):
        self.number, self.seen = number, []
        setattr(self, hook, self.send)

    def send(self):
        os.kill(os.getpid(), self.number)

    def on_batch_checkpoint(self, batch):
        self.seen.append(f"checkpoint {batch}")

    def on_test_batch_end(self, batch):
        self.seen.append(f"test {batch}")

    def on_epoch_checkpoint(self):
        self.seen.append("epoch checkpoint")

    def on_train_end(self):
        self.seen.append(self.loop.outcome)


def trainer_of(**options) -> Trainer:
    return Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu", **options)


def test_on_interrupt_return_gives_the_history_instead():
    """For notebooks: interrupt the cell, keep what was trained."""
    sends = Sends(signal.SIGINT)
    history = trainer_of(on_interrupt="return").fit((X, Y), epochs=2, callbacks=sends, verbose=0)
    assert sends.seen == ["checkpoint 0", "interrupted"]
    assert (history.outcome, history.stop_reason, history.epoch) == ("interrupted", "signal 2", [])


def test_on_interrupt_return_does_not_swallow_sigterm():
    """Whoever sends SIGTERM wants the process to go."""
    with pytest.raises(SystemExit) as left:
        trainer_of(on_interrupt="return").fit((X, Y), callbacks=Sends(signal.SIGTERM), verbose=0)
    assert left.value.code == 143


@pytest.mark.parametrize(
    ("hook", "seen"),
    [
        ("on_train_begin", ["interrupted"]),
        ("on_epoch_begin", ["interrupted"]),
        ("on_test_batch_begin", ["checkpoint 0", "test 0", "checkpoint 0", "interrupted"]),
        ("on_epoch_end", ["checkpoint 0", "test 0", "test 1", "epoch checkpoint", "interrupted"]),
        ("on_train_end", ["checkpoint 0", "test 0", "test 1", "epoch checkpoint"]),
    ],
)
def test_a_signal_at_any_hook_is_honoured(hook, seen):
    """Validation is left after its batch, and savers are asked once more; no signal is lost."""
    sends = Sends(signal.SIGINT, hook)
    validation = [(X, Y), (X, Y)]
    with pytest.raises(KeyboardInterrupt):
        trainer_of().fit((X, Y), validation_data=validation, callbacks=sends, verbose=0)
    assert sends.seen == seen


def test_a_window_of_accumulation_is_completed_first():
    """Only then can the state be saved, and going on from it is exact."""
    sends = Sends(signal.SIGINT)
    del sends.on_train_batch_end
    sends.on_train_batch_begin = lambda batch: sends.send() if batch == 0 else None
    with pytest.raises(KeyboardInterrupt):
        trainer_of(accumulate=3).fit((X, Y), batch_size=1, callbacks=sends, verbose=0)
    assert sends.seen == ["checkpoint 2", "interrupted"]


@pytest.mark.reliability("D6")
@pytest.mark.parametrize("how", ["finished", "failed", "interrupted"])
def test_handlers_are_put_back_however_the_run_ends(how):
    """Outside of fit, signals do what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    class Ends(Callback):
        def on_train_batch_end(self):
            assert signal.getsignal(signal.SIGTERM) is not before[0]
            if how == "failed":
                raise ZeroDivisionError
            if how == "interrupted":
                os.kill(os.getpid(), signal.SIGINT)

    ends = {"failed": pytest.raises(ZeroDivisionError), "finished": contextlib.nullcontext()}
    with ends.get(how, pytest.raises(KeyboardInterrupt)):
        trainer_of().fit((X, Y), callbacks=Ends(), verbose=0)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_evaluate_and_predict_leave_signals_alone():
    """Handlers are in force during fit only."""
    before = signal.getsignal(signal.SIGINT)

    class Looks(Callback):
        def on_test_batch_end(self):
            assert signal.getsignal(signal.SIGINT) is before

    trainer_of().evaluate((X, Y), callbacks=Looks(), verbose=0)


# -- handlers of others ---------------------------------------------------------------


def own(number, frame):
    """Stand in for a handler that somebody had installed."""


@pytest.fixture
def installed():
    """Handlers of somebody else's, for each signal that a run may handle."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, own) for number in numbers}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


class Looks(Callback):
    """Notes who handles signals while the run is under way."""

    save_signals = (signal.SIGUSR1,)
    observer = True

    def __init__(self, *, fails=False):
        self.fails, self.seen = fails, []

    def on_train_batch_end(self):
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        self.seen.append([signal.getsignal(number) is own for number in numbers])
        if self.fails:
            raise ValueError("broken")


@pytest.mark.reliability("D6")
@pytest.mark.filterwarnings("ignore:looks failed:RuntimeWarning")
@pytest.mark.parametrize("fails", [False, True])
def test_whoever_handled_a_signal_does_so_again_after_the_run(installed, fails):
    """SIGUSR1 too, though the callback that asked for it is off by then."""
    looks = Looks(fails=fails)
    trainer_of().fit((X, Y), callbacks=looks, verbose=0)
    assert looks.seen == [[False] * 3]
    assert [signal.getsignal(number) for number in installed] == [own] * 3


@pytest.mark.reliability("D6")
def test_in_another_thread_a_run_leaves_signals_alone(installed):
    """Handlers can be set in the main thread only; it trains all the same."""
    looks, found = Looks(), []

    def fit():
        found.append(trainer_of().fit((X, Y), callbacks=looks, verbose=0).outcome)

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert found == ["finished"]
    assert looks.seen == [[True] * 3]
    assert looks.loop.saves_asked is None


@pytest.mark.reliability("D6")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_in_a_run_inside_of_a_run_is_meant_for_both(installed, number):
    """The inner one ends, or saves, and the outer one too; each handler is put back in its turn."""
    inner, outer = Sends(number), Sends(number, "never")
    inner.save_signals = outer.save_signals = (signal.SIGUSR1,)
    outer.name = "outer"

    def nested(batch):
        after = [signal.getsignal(one) for one in installed]
        with contextlib.suppress(SystemExit):
            trainer_of().fit((X, Y), callbacks=inner, verbose=0)
        assert [signal.getsignal(one) for one in installed] == after

    outer.on_train_batch_begin = nested
    ends = number == signal.SIGTERM
    with pytest.raises(SystemExit) if ends else contextlib.nullcontext():
        trainer_of().fit((X, Y), callbacks=outer, verbose=0)
    assert [one.loop.interrupted for one in (inner, outer)] == [ends] * 2
    assert [one.loop.saves_asked for one in (inner, outer)] == [int(not ends)] * 2
    assert [signal.getsignal(one) for one in installed] == [own] * 3
