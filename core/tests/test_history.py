"""History and BaseLogger: what every run remembers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from hookloop import BaseLogger, Callback, History, HookloopError, Trainer

X = torch.linspace(-1, 1, 10).reshape(5, 2)
Y = X.sum(1, keepdim=True)


def fit(*callbacks, **options):
    trainer = Trainer(nn.Linear(2, 1), loss="mse", optimizer="sgd", device="cpu", seed=1)
    options = {"epochs": 2, "batch_size": 2, "verbose": 0, **options}
    return trainer.fit((X, Y), callbacks=list(callbacks), **options)


class Reports(Callback):
    """Reports numbers of its own: in batches, and in some epochs only."""

    def on_train_batch_end(self, batch, logs):
        logs["batch_number"] = batch
        logs["tensor"] = torch.tensor(float(batch))
        logs["text"] = "no number"

    def on_epoch_end(self, epoch, logs):
        if epoch == 1:
            logs["late"] = torch.tensor(7.0)


def test_history_holds_what_was_reported_as_plain_numbers():
    """Means by size over batches of 2, 2 and 1; a key that comes later has fewer values."""
    history = fit(Reports())
    assert history.epoch == [0, 1]
    assert history.history["batch_number"] == [0.8, 0.8]
    assert history.history["tensor"] == [0.8, 0.8]
    assert history.history["late"] == [7.0]
    assert "text" not in history.history
    assert {type(value) for values in history.history.values() for value in values} == {float}


def test_stateful_metrics_are_taken_as_they_are():
    """What somebody has averaged already is not averaged again: the last value counts."""
    history = fit(BaseLogger(stateful_metrics=["batch_number"]), Reports())
    assert history.history["batch_number"] == [2, 2]


def test_the_outcome_of_a_run_is_in_its_history():
    """finished, where nobody asked to stop."""
    history = fit()
    assert (history.outcome, history.stop_reason) == ("finished", None)
    assert history.params["epochs"] == 2


def test_rows_survive_a_round_trip_as_plain_data():
    """Sparse keys keep the epochs that they belong to."""
    history, other = fit(Reports()), History()
    other.load_rows(history.rows_state())
    assert (other.history, other.epoch) == (history.history, history.epoch)
    assert other.rows_state() == history.rows_state()
    assert history.rows_state()["values"]["late"] == [[1], [7.0]]


def test_plot_draws_each_metric_with_its_val_twin(tmp_path):
    """One panel a metric, epochs from 1, into a folder that is made."""
    history = fit(Reports(), validation_data=(X, Y), validation_freq=2)
    path = tmp_path / "new" / "curves.png"
    figure = history.plot(path)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert set(panels) == {"loss", "batch number", "tensor", "late"}
    curves = [list(line.get_xdata()) for line in panels["loss"].lines]
    assert curves[:2] == [[1, 2], [2]]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    """It is an extra; nothing else needs it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(HookloopError) as refused:
        History().plot()
    assert str(refused.value) == (
        "history.plot() draws with matplotlib, which is not installed.\n"
        'fix: pip install "hookloop[plot]"'
    )


def test_history_can_be_imported_without_torch():
    """It is part of the contract, which knows nothing of torch until it is used."""
    code = "import sys, hookloop.history; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
