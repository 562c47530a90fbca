"""Keras on torch, with its own model and its own Adam."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from jobs import BESIDE, SHAPES, Job, Terminal

MODULE = "keras"


class Nothing(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class Beside(keras.layers.Layer):
    """Has the numbers of a "large" model that are saved and not trained."""

    def build(self, shape: Any) -> None:
        self.beside = self.add_weight(shape=(BESIDE,), initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        return inputs


def callbacks(job: Job) -> list[Any]:
    if job.callbacks == "nothing":
        return [Nothing() for _ in range(5)]
    saver = keras.callbacks.ModelCheckpoint(str(job.folder / "model.{epoch}.keras"))
    if job.callbacks == "saving":
        return [saver]
    if job.callbacks == "realistic":
        return [
            keras.callbacks.EarlyStopping(monitor="loss", patience=1000),
            saver,
            keras.callbacks.CSVLogger(str(job.folder / "keras.csv")),
            keras.callbacks.ReduceLROnPlateau(monitor="loss"),
            keras.callbacks.TerminateOnNaN(),
        ]
    return []


def endless(job: Job) -> Iterator[Any]:
    while True:
        yield from job.batches


def train(job: Job) -> None:
    keras.utils.set_random_seed(0)
    inputs, hidden, outputs, _ = SHAPES[job.model]
    dense = keras.layers.Dense
    layers = [keras.layers.Input((inputs,)), dense(hidden, activation="relu"), dense(outputs)]
    if job.model == "large":
        layers.append(Beside())
    model = keras.Sequential(layers)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=entropy if job.model == "mid" else "mse")
    with contextlib.redirect_stdout(Terminal()):
        model.fit(
            endless(job),
            steps_per_epoch=job.steps,
            epochs=job.epochs,
            verbose=1 if job.callbacks == "realistic" else 0,
            shuffle=False,
            callbacks=callbacks(job),
        )
