"""Loaders with workers, and processes that are forked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, Trainer
from hookloop.files import background

X, Y = torch.arange(40.0).reshape(40, 1), torch.zeros(40, 1)


class Evaluates(Callback):
    """Evaluates on a loader after the first batch of every epoch, and counts the batches."""

    def __init__(self, loader: object) -> None:
        self.loader = loader
        self.batches = 0

    def on_train_batch_end(self, batch: int) -> None:
        self.batches += 1
        if batch == 0:
            self.loop.evaluate(self.loader)


def test_evaluating_on_the_training_loader_leaves_the_epoch_alone() -> None:
    """Also where its workers persist, and with them the one iterator that torch has of it."""
    loader = DataLoader(TensorDataset(X, Y), 8, num_workers=1, persistent_workers=True)
    callback = Evaluates(loader)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.0")
    trainer.fit(loader, epochs=2, callbacks=[callback], verbose=0)
    assert callback.batches == 10


def test_the_order_of_persistent_workers_is_that_of_the_epoch() -> None:
    """Starting in the second epoch gives the second epoch's order."""
    orders = []
    for first in (0, 1):
        loader = DataLoader(
            TensorDataset(X, Y), 8, shuffle=True, num_workers=1, persistent_workers=True
        )
        seen: list[torch.Tensor] = []

        class Sees(Callback):
            def on_train_batch_begin(self, batch: int) -> None:
                if self.loop.epoch == 1:
                    seen.append(self.loop.inputs.clone())  # noqa: B023

        trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.0", seed=3)
        trainer.fit(loader, initial_epoch=first, epochs=2, callbacks=[Sees()], verbose=0)
        orders.append(torch.cat(seen))
    assert torch.equal(*orders)


def test_a_forked_child_writes_with_a_thread_of_its_own() -> None:
    """It would wait for ever for the one of its parent."""
    background(int).result(timeout=10)
    child = multiprocessing.get_context("fork").Process(target=lambda: background(int).result())
    child.start()
    child.join(timeout=20)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert child.exitcode == 0


#: Trains on a loader whose worker persists, and drops it; then leaves another one in use.
LEAVES = """
import gc, time
import torch
from torch.utils.data import DataLoader, TensorDataset
from hookloop import Trainer
from hookloop.data import make_source

DATA = TensorDataset(torch.zeros(16, 1), torch.zeros(16, 1))

class Stuck(TensorDataset):
    def __getitem__(self, index):
        if index >= 8:
            time.sleep(60)
        return super().__getitem__(index)

def train():
    loader = DataLoader(DATA, 8, num_workers=1, persistent_workers=True)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", device="cpu")
    trainer.fit(loader, verbose=0)

if {trains}:
    gc.disable()
    train()
    before = time.monotonic()
    gc.collect()
    print("waited", time.monotonic() - before > 4)
else:
    loader = DataLoader(Stuck(*DATA.tensors), 8, num_workers=2)
    source = make_source(loader, batch_size=None, shuffle=False, device=torch.device("cpu"))
    batches = source.batches(0, 0)
    print("samples", next(batches)[2])
"""


def leave(*, trains: bool) -> str:
    """Run the script, which has to end: within 30 seconds, and with what its workers hold."""
    command = [sys.executable, "-c", LEAVES.format(trains=trains)]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, start_new_session=True, **told) as process:
        try:
            output, _ = process.communicate(timeout=30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    return output


def test_workers_that_persist_end_with_their_loader() -> None:
    """At once, though the collector finds it, and torch would wait five seconds for each."""
    assert leave(trains=True) == "waited False\n"


def test_a_process_ends_though_workers_are_stuck() -> None:
    """They block the signal by which Python ends what is left at exit, before it waits for them."""
    assert leave(trains=False) == "samples 8\n"


#: Starts a worker that takes its time to begin: until a file is there.
BEGINS = """
import sys, time
from pathlib import Path
import torch
from torch.utils.data import DataLoader, IterableDataset
from hookloop.data import make_source

def wait():
    print("begins", flush=True)
    while not Path("go").exists():
        time.sleep(0.01)

def begin(worker):
    if WHERE != "in the dataset":
        wait()
    if WHERE == "and fails":
        raise ValueError("it does not begin")

class Data(IterableDataset):
    def __iter__(self):
        if WHERE == "in the dataset":
            wait()
        return iter([(torch.zeros(1), torch.zeros(1))] * 16)

if __name__ == "__main__":
    loader = DataLoader(
        Data(), 8, num_workers=1, worker_init_fn=begin, multiprocessing_context=METHOD
    )
    source = make_source(loader, batch_size=None, shuffle=False, device=torch.device("cpu"))
    for _ in source.batches(0, 0):
        assert loader.worker_init_fn is begin
        print("reads", flush=True)
"""


@pytest.mark.parametrize("kills", [True, False])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("where", ["in worker_init_fn", "and fails", "in the dataset"])
def test_a_worker_ends_whose_process_was_killed_before_it_began(
    where: str, method: str, kills: bool, tmp_path: Path
) -> None:
    """It would keep its memory, and whoever reads what the process wrote would wait for ever."""
    script = tmp_path / "begins.py"
    script.write_text(BEGINS.replace("METHOD", repr(method)).replace("WHERE", repr(where)))
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    command = [sys.executable, script]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **told) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "begins\n"
            if kills:
                process.kill()
                process.wait()
            (tmp_path / "go").touch()
            reads = "" if kills or where == "and fails" else "reads\nreads\n"
            assert process.communicate(timeout=30)[0] == reads
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
