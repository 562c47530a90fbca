"""Lightning missing, and Lightning under its other name."""

from __future__ import annotations

import subprocess
import sys

MISSING = """
import sys
for name in ("lightning", "pytorch_lightning"):
    sys.modules[name] = None
import hookloop_in_lightning
"""
OTHER = """
import warnings
warnings.simplefilter("ignore")
import sys
sys.modules["lightning"] = None
import pytorch_lightning, torch
from torch.utils.data import DataLoader, TensorDataset
from hookloop_in_lightning import HookloopCallback

class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(1, 1)
    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()
    def on_train_epoch_end(self):
        self.log("late", 1.0)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

callback = HookloopCallback(["early_stopping:monitor=late,mode=min,patience=1"])
trainer = pytorch_lightning.Trainer(
    accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
    max_epochs=9, callbacks=[callback],
)
trainer.fit(Module(), DataLoader(TensorDataset(torch.ones(8, 1)), 4))
print(callback.history.epoch, callback.history.outcome)
"""


def run(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )


def test_a_missing_lightning_is_named_with_its_pip_line() -> None:
    """The import fails with what to install."""
    done = run(MISSING)

    assert done.returncode == 1
    assert "hookloop_in_lightning needs Lightning, which cannot be imported" in done.stderr
    assert done.stderr.endswith('fix: pip install "hookloop-in-lightning[lightning]"\n')


def test_it_runs_in_pytorch_lightning_too() -> None:
    """Where the package lightning is not installed, the older name does."""
    done = run(OTHER)

    assert (done.stdout, done.returncode) == ("[0, 1] stopped\n", 0), done.stderr
