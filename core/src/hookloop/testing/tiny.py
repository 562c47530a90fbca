"""TinyLoop: a model, data and a loop that are over in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hookloop import rng
from hookloop.history import History
from hookloop.trainer import Trainer


class TinyLoop:
    """A training, evaluation and prediction so small that a test can afford many.

    Two of the same arguments are equal to the last bit, whatever was drawn before. The model has
    dropout, so that a callback that disturbs the random numbers changes the result.

    Args:
        epochs: How many ``fit`` runs.
        samples: Of training, and as many of validation.
        batch_size: Samples a batch.
        validation: Whether there are validation data.
        nan: Whether every target, and so the loss, is NaN.
        dropout: Share of the hidden units that is dropped.
        seed: Of the weights, the data and the training.

    Attributes:
        model: ``Linear(3, 8)``, ReLU, dropout, ``Linear(8, 1)``, on the CPU, in float32.
        optimizer: SGD with momentum; ``lr=0.1``.
        trainer: A `Trainer` of these, with mean squared error, and mean absolute error as ``mae``.
        data: Inputs of shape (samples, 3) and targets of shape (samples, 1).
        validation_data: The same again, or None.
    """

    def __init__(
        self,
        *,
        epochs: int = 2,
        samples: int = 12,
        batch_size: int = 4,
        validation: bool = True,
        nan: bool = False,
        dropout: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.epochs, self.batch_size = epochs, batch_size
        with rng.fork():
            torch.manual_seed(seed)
            hidden = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(dropout))
            self.model = nn.Sequential(*hidden, nn.Linear(8, 1))
            x = torch.randn(samples, 3)
            y = torch.full((samples, 1), torch.nan) if nan else x.sum(1, keepdim=True)
            self.data = (x, y)
            self.validation_data = (x.flip(0), y.flip(0)) if validation else None
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.trainer = Trainer(
            self.model,
            loss="mse",
            optimizer=self.optimizer,
            metrics=["mae"],
            device="cpu",
            seed=seed,
        )

    def fit(self, callbacks: Any = (), **options: Any) -> History:
        """Train; options are those of ``Trainer.fit``, and failures of callbacks end the run."""
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "validation_data": self.validation_data,
            "verbose": 0,
            "on_callback_error": "raise",
            **options,
        }
        return self.trainer.fit(self.data, callbacks=callbacks, **given)

    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Give the training data in batches, for a loop written by hand."""
        x, y = (torch.split(part, self.batch_size) for part in self.data)
        return list(zip(x, y, strict=True))

    def evaluate(self, callbacks: Any = ()) -> dict[str, float]:
        """Evaluate on the training data."""
        return self.trainer.evaluate(
            self.data, batch_size=self.batch_size, callbacks=callbacks, verbose=0
        )

    def predict(self, callbacks: Any = ()) -> torch.Tensor:
        """Give the outputs for the training data, of shape (samples, 1)."""
        found: torch.Tensor = self.trainer.predict(
            self.data[0], batch_size=self.batch_size, callbacks=callbacks, verbose=0
        )
        return found
