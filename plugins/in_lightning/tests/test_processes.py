"""Two processes: who runs where, and that a stop is agreed on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = '''
import json, os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[2])
from lightning_runs import Regression, few, trainer
from hookloop import Callback
from torch import distributed

class Notes(Callback):
    """Asks to stop in the second batch of epoch 1, in process 1 alone."""
    def on_train_begin(self):
        self.epochs = []
    def on_train_batch_end(self, loop, batch):
        if (loop.rank, loop.epoch, batch) == (1, 1, 1):
            loop.stop("process 1 has enough")
    def on_epoch_end(self, loop, epoch):
        self.epochs.append(loop.batch)
    def on_train_end(self, loop):
        found = [loop.rank, loop.world_size, loop.step, list(loop.callbacks), loop.stop_reason]
        Path(sys.argv[1], f"{loop.rank}.json").write_text(json.dumps(found))

if __name__ == "__main__":
    log = Path(sys.argv[1], "log.csv")
    made = trainer([Notes(), f"csv_logger:filename='{log}'"], max_epochs=5, strategy="ddp", devices=2)
    made.fit(Regression(), few(), few(16))
    # Lightning leaves the group to the end of Python, where one of gloo's threads may abort it.
    distributed.barrier()
    distributed.destroy_process_group()
'''  # noqa: E501


def test_processes_stop_together_and_observers_run_in_the_first(tmp_path: Path) -> None:
    """Each has done the same steps; one file is written by one process."""
    script, hosts = tmp_path / "train.py", Path(__file__).parents[3] / "tests" / "hosts"
    script.write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, script, tmp_path, hosts],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert zero == [
        0, 2, 5, ["base_logger", "notes", "csv_logger", "history"], "another process asked to stop"
    ]  # fmt: skip
    assert one == [1, 2, 5, ["base_logger", "notes", "history"], "process 1 has enough"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
