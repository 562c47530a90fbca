"""A process that is killed while it saves leaves a file that loads."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, sys, time
import torch
from hookloop import CallbackList, checkpoints
from hookloop_model_checkpoint import ModelCheckpoint

def train(pipe):
    model = torch.nn.Linear(500, 500)
    callbacks = CallbackList([ModelCheckpoint("m.pt")], model=model)
    callbacks.on_train_begin()
    for epoch in range(1_000_000):
        callbacks.on_epoch_end(epoch)
        os.write(pipe, b".")

def killed(kill):
    ear, mouth = os.pipe()
    child = os.fork()
    if not child:
        train(mouth)
    os.read(ear, 1), os.read(ear, 1)   # the first file is on disk, the second is being written
    end = time.perf_counter() + kill * 0.0007
    while time.perf_counter() < end:
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

for kill in range(12):
    killed(kill)
    assert checkpoints.load_state("m.pt")["model"]["weight"].shape == (500, 500)

left = [name for name in os.listdir() if name != "m.pt"]
callbacks = CallbackList([ModelCheckpoint("m.pt")], model=torch.nn.Linear(1, 1))
callbacks.on_train_begin()
swept = [name for name in os.listdir() if name != "m.pt"]
callbacks.on_train_end()
print(f"12 files loaded; left before a new run: {len(left) > 0}, after: {swept}")
"""


def test_a_killed_process_leaves_a_file_that_loads() -> None:
    """Twelve kills at different moments of a write; the next run sweeps what they left behind."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith("12 files loaded;")
    assert done.stdout.endswith("after: []\n")
