"""Signals at random times: real processes, and what comes out is what would have come out anyway.

A few of each here; tests_all/test_signalled.py has thirty of SIGTERM and ten of the others.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
import signalled
import torch
from torch import nn

from hookloop import Callback, Trainer
from hookloop.checkpoints import load_state

PLAYS = [
    ["fit", signal.SIGTERM, 6],
    ["fit", signal.SIGUSR1, 3],
    ["attach", signal.SIGUSR1, 2],
    ["fit", signal.SIGKILL, 2],
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> signalled.Results:
    return signalled.play(tmp_path_factory.mktemp("signalled"), PLAYS, seed=20)


@pytest.mark.reliability("D1", "D6")
def test_a_run_that_sigterm_ends_goes_on_as_if_nothing_had_been(played: signalled.Results) -> None:
    """Whenever it comes; whoever ignored it before ignores it afterwards."""
    signalled.check_ended(played["fit-15"], 143)


@pytest.mark.reliability("D2")
@pytest.mark.parametrize("host", ["fit", "attach"])
def test_sigusr1_saves_and_the_run_goes_on_as_if_nothing_had_been(
    played: signalled.Results, host: str
) -> None:
    """As Slurm sends it some time before it ends the job; Slurm itself is not needed for that."""
    signalled.check_saved(played[f"{host}-10"])


@pytest.mark.reliability("D8")
def test_a_grace_that_is_shorter_than_a_save_leaves_the_state_before(
    played: signalled.Results,
) -> None:
    """SIGTERM, and SIGKILL 0.2 s later, on a disk that takes longer: the run goes on from there."""
    signalled.check_ended(played["fit-9"], -9)


class Many(nn.Module):
    """Two hundred tensors, so that most of the time is spent between two of them in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.ones(1) for _ in range(200))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.cat(list(self.parts)).mean()


@pytest.mark.reliability("D4")
def test_no_state_is_of_the_middle_of_a_step(tmp_path: Path) -> None:
    """Eight signals at random times, most of them in `optimizer.step`: all tensors agree."""
    drawn, over = random.Random(4), threading.Event()

    class Counts(Callback):
        saved = 0

        def on_message(self, text: str) -> bool:
            self.saved += text == signalled.SAVED
            if self.saved == 8:
                self.loop.stop("signalled enough")
            return True

    def send() -> None:
        while not over.wait(drawn.uniform(0.0, 0.02)):
            os.kill(os.getpid(), signal.SIGUSR1)

    model, x = Many(), torch.ones(8, 1)
    optimizer = torch.optim.Adam(model.parameters(), foreach=False)
    settings = {"backup_dir": tmp_path, "keep": 1000, "save_on_sigusr1": True, "save_freq": 10**6}
    callbacks = [("backup_and_restore", {**settings, "delete_checkpoint": False}), Counts()]
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        trainer = Trainer(model, loss="mse", optimizer=optimizer, device="cpu")
        trainer.fit((x, 2 * x), batch_size=2, epochs=10**6, callbacks=callbacks, verbose=0)
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    states = [load_state(path) for path in tmp_path.glob("state-*")]
    assert len(states) >= 8
    for state in states:
        steps = {int(one["step"]) for one in state["optimizers"][0]["state"].values()}
        assert steps == {state["loop"]["step"]}
