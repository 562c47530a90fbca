"""Train a small network on scikit-learn's handwritten digits, with callbacks chosen by name.

    python train_digits.py
    python train_digits.py --no-callback early_stopping --callback reduce_lr_on_plateau:patience=2

It needs: pip install "hookloop[demo]"
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import hookloop

parser = argparse.ArgumentParser(description="Train on handwritten digits.")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--seed", type=int, default=0)
hookloop.add_arguments(parser)  # --callback, --no-callback, --callbacks-from
args = parser.parse_args()

torch.manual_seed(args.seed)
pixels, digits = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
x, x_val, y, y_val = train_test_split(images, torch.tensor(digits), test_size=360, random_state=0)

model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.BatchNorm2d(64),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Dropout(0.25),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 64),
    nn.ReLU(),
    nn.Dropout(0.5),
    nn.Linear(64, 10),
)
trainer = hookloop.Trainer(
    model, loss="cross_entropy", optimizer="adam:lr=0.001", metrics=["accuracy"], seed=args.seed
)
callbacks = [
    "early_stopping:patience=6,restore_best_weights=true",
    "model_checkpoint:filepath=runs/train_digits/best.pt,save_best_only=true",
    "csv_logger:filename=runs/train_digits/log.csv",
    "progbar_logger",
]
callbacks = hookloop.from_arguments(args, default=callbacks)
history = trainer.fit(
    (x, y), epochs=args.epochs, batch_size=32, validation_data=(x_val, y_val), callbacks=callbacks
)
history.plot("runs/train_digits/curves.png")
print(f"validation accuracy: {trainer.evaluate((x_val, y_val), verbose=0)['accuracy']:.4f}")
