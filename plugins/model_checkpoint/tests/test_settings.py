"""Settings: their defaults, their names in Keras, and what is refused before training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hookloop_model_checkpoint import ModelCheckpoint

import hookloop
from hookloop import CallbackList, Trainer, reading
from hookloop.errors import CapabilityError, FileError, MonitorError, SettingError, TemplateError
from hookloop.loop import Loop


def begin(*callbacks, model=None) -> CallbackList:
    chosen = CallbackList(list(callbacks), model=model or torch.nn.Linear(1, 1))
    chosen.on_train_begin()
    return chosen


def test_the_defaults_are_those_of_keras() -> None:
    """All settings can be read back under their names."""
    checkpoint = ModelCheckpoint("m.pt")
    shown = {
        name: getattr(checkpoint, name)
        for name in (
            "filepath monitor verbose save_best_only save_weights_only mode save_freq "
            "initial_value_threshold period keep_last keep_best async_save on_save_error best"
        ).split()
    }
    assert shown == {
        "filepath": "m.pt",
        "monitor": "val_loss",
        "verbose": 0,
        "save_best_only": False,
        "save_weights_only": False,
        "mode": "auto",
        "save_freq": "epoch",
        "initial_value_threshold": None,
        "period": None,
        "keep_last": None,
        "keep_best": None,
        "async_save": True,
        "on_save_error": "raise",
        "best": None,
    }


def test_positional_arguments_are_in_the_order_of_keras() -> None:
    """filepath, monitor, verbose, save_best_only, save_weights_only, mode, save_freq, threshold."""
    checkpoint = ModelCheckpoint("m.pt", "acc", 1, True, True, "max", 5, 0.5)
    assert (checkpoint.monitor, checkpoint.mode, checkpoint.save_freq) == ("acc", "max", 5)
    assert checkpoint.best == 0.5


def test_it_is_chosen_by_name() -> None:
    """Words with a unit and a template go through a string unharmed."""
    checkpoint = hookloop.load("model_checkpoint:filepath=m-{epoch:02d}.pt,save_freq=10 min")
    assert type(checkpoint) is ModelCheckpoint
    assert (checkpoint.filepath, checkpoint.save_freq) == ("m-{epoch:02d}.pt", "10 min")


def test_a_path_object_is_a_path() -> None:
    """PathLike is accepted."""
    assert ModelCheckpoint(Path("run") / "m.pt").filepath == os.path.join("run", "m.pt")


@pytest.mark.parametrize("name", ["options", "load_weights_on_restart"])
def test_arguments_of_tensorflow_are_refused_with_the_reason(name: str) -> None:
    """Keras users learn why, instead of that there is no such argument."""
    with pytest.raises(SettingError, match=f"{name}= means something only in TensorFlow"):
        ModelCheckpoint("m.pt", **{name: True})


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"filepath": "run/"}, SettingError, "is a folder"),
        ({"filepath": ""}, TemplateError, "is empty"),
        ({"filepath": "m.{epoch:zz}.pt"}, TemplateError, "cannot be formatted"),
        ({"filepath": "m.{epoch.pt"}, TemplateError, "cannot be formatted"),
        ({"filepath": "m-{batch}.pt"}, SettingError, "saves are after epochs"),
        ({"mode": "best"}, ValueError, "mode='best' is no direction"),
        ({"on_save_error": "ignore"}, SettingError, "on_save_error='ignore' is not offered"),
        ({"initial_value_threshold": float("nan")}, SettingError, "is not a number"),
        ({"save_freq": 0}, SettingError, "save_freq=0"),
        ({"save_best_only": True, "save_freq": 10}, SettingError, "'val_loss' is measured once an"),
        ({"save_best_only": True, "save_freq": "9 steps"}, SettingError, "no fresh value"),
        ({"save_best_only": True, "save_freq": "1 min"}, SettingError, "monitor='loss'"),
        (
            {"filepath": "{step}.pt", "keep_best": 1, "save_freq": 10},
            SettingError,
            "'val_loss' is measured once an epoch",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings, error, said: str) -> None:
    """The constructor says so, with a fix."""
    with pytest.raises(error, match=said) as caught:
        ModelCheckpoint(**{"filepath": "m.pt", **settings})
    assert "\nfix: " in str(caught.value)


def test_a_metric_of_batches_may_be_compared_between_epochs() -> None:
    """It is fresh whenever it is looked at."""
    assert ModelCheckpoint("m.pt", "loss", save_best_only=True, save_freq=10).save_best_only


def test_a_metric_without_direction_is_refused_only_where_it_is_compared() -> None:
    """An unused monitor never ends a run."""
    begin(ModelCheckpoint("a.pt", monitor="wobble")).on_train_end()
    with pytest.raises(MonitorError, match="'wobble' is better"):
        begin(ModelCheckpoint("b.pt", monitor="wobble", save_best_only=True))


def test_a_folder_in_place_of_the_file_is_refused_before_training() -> None:
    """The message says what the path is."""
    Path("m").mkdir()
    with pytest.raises(FileError, match="this path is a folder"):
        begin(ModelCheckpoint("m"))


def test_a_folder_that_cannot_be_made_is_refused_before_training() -> None:
    """A part of the path that is a file is found out at once, not after an epoch."""
    Path("run").write_text("a file")
    with pytest.raises(FileError, match=r"run/m\.pt cannot be written"):
        begin(ModelCheckpoint("run/m.pt"))


def test_two_callbacks_with_one_path_are_refused() -> None:
    """Both are named."""
    with pytest.raises(FileError, match="model_checkpoint#2 and model_checkpoint both write"):
        begin(ModelCheckpoint("m-{epoch}.pt"), ModelCheckpoint("./m-{epoch}.pt"))


class Stateless(Loop):
    """A host whose runs cannot be continued."""

    host = "Somewhere"


@pytest.mark.parametrize("weights_only", [False, True], ids=["whole state", "weights"])
def test_a_host_without_state_can_only_have_its_weights_saved(weights_only: bool) -> None:
    """The whole state is refused before training, with the setting that helps."""
    checkpoint = ModelCheckpoint("m.pt", save_weights_only=weights_only)
    loop = Stateless(model=torch.nn.Linear(1, 1), callbacks=[("model_checkpoint", checkpoint)])
    checkpoint.set_loop(loop)
    if weights_only:
        checkpoint.on_train_begin()
        return
    with pytest.raises(CapabilityError, match="Somewhere does not offer") as caught:
        checkpoint.on_train_begin()
    assert caught.value.fix == "save_weights_only=True"


def test_without_a_model_there_is_nothing_to_save() -> None:
    """It is said before training."""
    chosen = CallbackList([ModelCheckpoint("m.pt")], model=None)
    with pytest.raises(CapabilityError, match="saves a model, and CallbackList was given none"):
        chosen.on_train_begin()


@pytest.mark.parametrize(
    ("filepath", "said"),
    [
        ("{val_los:.2f}.pt", "'val_los'. Did you mean 'val_loss'?"),
        ("{acc}-{loss}.pt", "'acc'."),
    ],
)
def test_a_name_in_the_path_that_nobody_reports_is_warned_of(filepath: str, said: str) -> None:
    """The host knows its metrics when the run starts; the run goes on."""
    x = torch.zeros(4, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1")
    with pytest.warns(UserWarning, match="known to report|was not reported") as caught:
        trainer.fit((x, x), callbacks=[ModelCheckpoint(filepath)], verbose=0)
    assert said in str(caught[0].message)


def test_known_names_in_the_path_are_not_warned_of() -> None:
    """Warnings are errors here."""
    x = torch.zeros(4, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", metrics=["mae"])
    checkpoint = ModelCheckpoint("{epoch}-{step}-{val_mae:.2f}.pt")
    trainer.fit((x, x), validation_data=(x, x), callbacks=[checkpoint], verbose=0)
    assert len(list(Path().glob("1-1-*.pt"))) == 1


def test_saving_per_epoch_costs_nothing_per_batch() -> None:
    """The batch hook is implemented only by those that look at batches."""
    order = begin(ModelCheckpoint("m.pt")).loop.registry.order()
    assert "on_batch_checkpoint" not in order
    order = begin(ModelCheckpoint("m.pt", save_freq=5)).loop.registry.order()
    assert order["on_batch_checkpoint"] == ["model_checkpoint"]


@pytest.mark.parametrize(
    ("settings", "saves"), [({}, 2), ({"keep_last": 2}, 3), ({"keep_last": 2, "keep_best": 1}, 4)]
)
@pytest.mark.reliability("C8")
def test_too_little_room_is_said_when_the_run_begins(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], saves: int
) -> None:
    """For those that are kept and the one that is being written, each of 25 numbers."""
    path = "{epoch}.safetensors" if settings else "m.safetensors"
    checkpoint = ModelCheckpoint(path, monitor="loss", **settings)
    monkeypatch.setattr(reading, "free", lambda path: 100 * saves - 1)
    said = f"{path}: .* bytes are free there, and up to .* for {saves} saves of 100.\nfix: "
    with pytest.warns(RuntimeWarning, match=said):
        begin(checkpoint, model=torch.nn.Linear(4, 5))
    monkeypatch.setattr(reading, "free", lambda path: 100 * saves)
    begin(checkpoint, model=torch.nn.Linear(4, 5))
