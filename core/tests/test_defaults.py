"""What a run shows without being asked: the bar where it is installed, else plain lines."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hookloop import Callback, Trainer, defaults, discovery
from hookloop.errors import PluginImportError
from hookloop.lines import Lines

X = torch.zeros(4, 2)
Y = torch.ones(4, 1)


@pytest.fixture
def no_bar(monkeypatch):
    """As if the progress bar were not installed."""
    found = dict(discovery.installed())
    found.pop(discovery.normalized(defaults.BAR), None)
    monkeypatch.setattr(discovery, "installed", lambda: found)


def trainer_of(**options) -> Trainer:
    model = nn.Linear(2, 1, bias=False)
    return Trainer(model, loss="mse", optimizer="sgd", device="cpu", **options)


def test_without_the_bar_an_epoch_is_one_plain_line(no_bar, capsys):
    """Loss and metrics, four digits; no bar, no escape code."""
    trainer_of(metrics=["mae"]).fit((X, Y), epochs=2, validation_data=(X, Y))
    assert capsys.readouterr().out == (
        "epoch 1/2 - loss: 1 - mae: 1 - val_loss: 1 - val_mae: 1\n"
        "epoch 2/2 - loss: 1 - mae: 1 - val_loss: 1 - val_mae: 1\n"
    )


def test_without_the_bar_an_evaluation_is_one_plain_line(no_bar, capsys):
    """predict has nothing to say."""
    trainer = trainer_of()
    trainer.evaluate((X, Y))
    trainer.predict(X)
    assert capsys.readouterr().out == "evaluate - loss: 1\n"


def test_verbose_0_shows_nothing(capsys):
    """With or without the bar."""
    trainer = trainer_of()
    trainer.fit((X, Y), verbose=0)
    trainer.evaluate((X, Y), verbose=0)
    assert capsys.readouterr().out == ""


def test_a_broken_bar_ends_nobodys_run(monkeypatch, capsys):
    """Nobody named it, so its failure is a warning, and lines are shown."""

    def broken(name, **settings):
        raise PluginImportError("progbar_logger cannot be imported.", fix="reinstall it")

    plugin = discovery.Plugin(defaults.BAR, defaults.BAR_OWNER, "1.0", "missing:Bar")
    monkeypatch.setattr(
        discovery, "installed", lambda: {discovery.normalized(defaults.BAR): (plugin,)}
    )
    monkeypatch.setattr(defaults, "load", broken)
    with pytest.warns(UserWarning, match="progbar_logger cannot be imported.\nfix: reinstall it"):
        trainer_of().fit((X, Y))
    assert capsys.readouterr().out == "epoch 1/1 - loss: 1\n"


def test_a_bar_of_somebody_else_is_not_taken_for_ours(monkeypatch):
    """A distribution that squats on the name is never imported without being named."""
    plugin = discovery.Plugin(defaults.BAR, "evil-progress", "1.0", "missing:Bar")
    monkeypatch.setattr(
        discovery, "installed", lambda: {discovery.normalized(defaults.BAR): (plugin,)}
    )
    assert [type(one) for one in defaults.with_bar([], 1)] == [Lines]


def test_a_users_own_bar_takes_the_place_of_the_default():
    """By its name, whatever its class."""

    class Mine(Callback):
        name = "progbar_logger"

    mine = Mine()
    assert defaults.with_bar([mine], 1) == [mine]


def test_lines_go_where_a_callback_shows_messages(no_bar, capsys):
    """on_message takes them, as a progress bar would."""
    shown = []

    class Shows(Callback):
        def on_message(self, text):
            shown.append(text)
            return True

    trainer_of().fit((X, Y), callbacks=Shows())
    assert shown == ["epoch 1/1 - loss: 1"]
    assert capsys.readouterr().out == ""
