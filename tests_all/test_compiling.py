"""compile=True with the compiler that torch uses, which takes its time."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from hookloop import Trainer

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def fit(*, compiled: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    parts = (nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    # No bias: normalization takes it out again, so its gradient is rounding, which Adam enlarges.
    model = nn.Sequential(nn.Linear(8, 16, bias=False), *parts)
    trainer = Trainer(model, loss="mse", optimizer="adam", seed=1, device="cpu", compile=compiled)
    history = trainer.fit((X, X[:, :1]), epochs=2, validation_data=(X, X[:, :1]), verbose=0)
    numbers = torch.tensor([history.history["loss"], history.history["val_loss"]])
    return [*model.state_dict().values(), numbers, trainer.predict(X, verbose=0)]


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_a_compiled_run_gives_what_a_plain_one_gives() -> None:
    """To the tolerance that docs/trainer.md states, the numbers that dropout draws included."""
    wanted = fit(compiled=False)
    torch._dynamo.reset()
    torch.testing.assert_close(fit(compiled=True), wanted, rtol=1e-4, atol=1e-5)
