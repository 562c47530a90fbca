"""A training in Keras that was interrupted goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from hookloop_in_keras import HookloopCallback

from hookloop import Callback
from hookloop.errors import ArgumentError, StateError

# Of Keras itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 6)).astype("float32")
Y = X[:, :1] * X[:, 1:2] + 0.6 * RNG.normal(size=(60, 1)).astype("float32")
BEST = "best.weights.pt"


class Average(Callback):
    """Has a tensor for a state: a moving average of the epochs' losses."""

    def __init__(self) -> None:
        self.value = torch.zeros(2)

    def on_train_begin(self) -> None:
        self.value = torch.zeros(2)

    def on_epoch_end(self, logs: Any) -> None:
        self.value = self.value * 0.5 + torch.tensor([logs["loss"], logs["val_loss"]])

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        self.value = state["value"]


class Crash(keras.callbacks.Callback):
    """Ends the training as a crash would, once, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch, self.now = epoch, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.now = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.now, batch) == (self.epoch, 1):
            raise RuntimeError("crash")


def made() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(12, activation="tanh", name="hidden"),
            keras.layers.Dense(1, name="last"),
        ],
        name="net",
    )
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
    return model


def chosen(folder: Path) -> list[Any]:
    folder.mkdir(exist_ok=True)
    return [
        "early_stopping:patience=4",
        {"reduce_lr_on_plateau": {"factor": 0.5, "patience": 2}},
        f"csv_logger:filename='{folder / 'log.csv'}'",
        ("model_checkpoint", {"filepath": folder / BEST, "save_best_only": True}),
        Average(),
    ]


def fit(model: keras.Model, callbacks: list[Any], **arguments: Any) -> None:
    given = {"epochs": 30, "batch_size": 16, "shuffle": False, "verbose": 0, **arguments}
    model.fit(X[:48], Y[:48], validation_data=(X[48:], Y[48:]), callbacks=callbacks, **given)


def outcome(bridge: HookloopCallback, model: keras.Model, folder: Path) -> Any:
    history = bridge.history
    assert history is not None
    best = (folder / BEST).read_bytes()
    rate = float(model.optimizer.learning_rate.value)
    facts = (history.epoch, history.history, history.outcome, history.stop_reason)
    return *facts, (folder / "log.csv").read_text(), rate, torch_weights(best, folder)


def torch_weights(_: bytes, folder: Path) -> list[list[float]]:
    saved = torch.load(folder / BEST, weights_only=True)
    return [value.flatten().tolist() for value in saved.values()]


@pytest.fixture
def uninterrupted(tmp_path: Path) -> Any:
    folder = tmp_path / "whole"
    model, callbacks = made(), chosen(folder)
    bridge = HookloopCallback(callbacks)
    fit(model, [bridge])
    return outcome(bridge, model, folder), callbacks[-1].value


@pytest.mark.parametrize("crash", [2, 5])
def test_a_resumed_training_decides_as_one_that_was_never_interrupted(
    crash: int, tmp_path: Path, uninterrupted: Any
) -> None:
    """Stop, rates, files, history, and a state that is a tensor; by Keras's own backup."""
    folder = tmp_path / "cut"
    kept = keras.callbacks.BackupAndRestore

    def bridge() -> HookloopCallback:
        return HookloopCallback(callbacks, backup=kept(str(tmp_path / "backup")))

    callbacks = chosen(folder)
    with pytest.raises(RuntimeError, match="crash"):
        fit(made(), [bridge(), Crash(crash)])
    callbacks = chosen(folder)
    model, resumed = made(), bridge()
    fit(model, [resumed])
    expected, value = uninterrupted
    assert len(expected[0]) < 30  # it was stopped
    assert outcome(resumed, model, folder) == expected
    assert torch.equal(callbacks[-1].value, value)
    assert not (tmp_path / "backup").exists()


def test_a_state_that_the_user_keeps_brings_the_callbacks_back(
    tmp_path: Path, uninterrupted: Any
) -> None:
    """state_dict() in a file of torch's, the weights and the optimizer in Keras's own."""
    folder, model = tmp_path / "cut", made()
    first = HookloopCallback(chosen(folder))
    fit(model, [first], epochs=5)
    torch.save(first.state_dict(), tmp_path / "callbacks.pt")
    model.save(tmp_path / "model.keras")

    callbacks = chosen(folder)
    second = HookloopCallback(callbacks)
    second.load_state_dict(torch.load(tmp_path / "callbacks.pt", weights_only=True))
    model = keras.saving.load_model(tmp_path / "model.keras")
    fit(model, [second])
    expected, value = uninterrupted
    assert outcome(second, model, folder) == expected
    assert torch.equal(callbacks[-1].value, value)


def test_a_run_that_was_saved_as_stopped_trains_nothing_more(tmp_path: Path, capsys: Any) -> None:
    """What was decided holds, and a line says so."""

    class Stops(Callback):
        def on_epoch_end(self) -> None:
            self.loop.stop("enough")

    keeper = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False)
    first = HookloopCallback([Stops()], backup=keeper)
    fit(made(), [first])
    model, second = made(), HookloopCallback([Stops()], backup=keeper)
    fit(model, [second])
    assert second.history is not None
    assert (second.history.epoch, second.history.stop_reason) == ([0], "enough")
    assert int(model.optimizer.iterations.value) == 3
    assert capsys.readouterr().out.count("The resumed run has ended already (enough): ") == 1


def test_a_run_whose_epochs_are_done_says_so(tmp_path: Path, capsys: Any) -> None:
    """Where the backup was kept; with more epochs it goes on."""
    keeper = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False)
    fit(made(), [HookloopCallback([], backup=keeper)], epochs=2)
    for epochs, said in ((2, 1), (3, 0)):
        bridge = HookloopCallback([], backup=keeper)
        fit(made(), [bridge], epochs=epochs)
        assert bridge.history is not None
        assert bridge.history.epoch == list(range(epochs))
        text = "The resumed run has ended already (2 epochs are done, and epochs=2): "
        assert capsys.readouterr().out.count(text) == said


def test_steps_go_on_over_a_restart_and_an_epoch_that_keras_begins_again(tmp_path: Path) -> None:
    """Saved every 2 batches: Keras goes on with the weights of batch 0, from batch 0 again."""

    class Steps(Callback):
        def on_train_batch_begin(self, batch: int) -> None:
            seen.append((self.loop.epoch, batch, self.loop.step))

    def bridge() -> HookloopCallback:
        folder = str(tmp_path / "backup")
        return HookloopCallback([Steps()], backup=keras.callbacks.BackupAndRestore(folder, 2))

    seen: list[Any] = []
    with pytest.raises(RuntimeError, match="crash"):
        fit(made(), [bridge(), Crash(1)], epochs=2)
    assert seen[-1] == (1, 0, 3)
    seen.clear()
    fit(made(), [bridge()], epochs=2)
    assert seen == [(1, 0, 4), (1, 1, 5), (1, 2, 6)]


def test_a_failed_run_keeps_its_backup(tmp_path: Path) -> None:
    """Keras deletes it also after a loss that was NaN (keras#21771)."""

    class Fails(Callback):
        def on_train_batch_end(self) -> None:
            if self.loop.epoch == 1:
                self.loop.stop("bad", failed=True)

    folder = tmp_path / "backup"
    keeper = keras.callbacks.BackupAndRestore(str(folder))
    fit(made(), [HookloopCallback([Fails()], backup=keeper)], epochs=3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "hookloop.3.pt",
        "latest.weights.h5",
        "training_metadata.json",
    ]


def test_a_backup_that_was_cut_between_its_files_loses_nothing(tmp_path: Path) -> None:
    """The state comes first; where the weights never followed, the older state fits them still."""
    folder = tmp_path / "backup"

    class Full(keras.Sequential):
        saves = 0

        def save_weights(self, *args: Any, **kwargs: Any) -> None:
            Full.saves += 1
            if Full.saves == 2:
                raise OSError("the disk is full")
            super().save_weights(*args, **kwargs)

    def run() -> HookloopCallback:
        model = Full(made().layers, name="net")
        model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
        keeper = keras.callbacks.BackupAndRestore(str(folder))
        bridges.append(HookloopCallback([Average()], backup=keeper))
        fit(model, [bridges[-1]], epochs=4)
        return bridges[-1]

    bridges: list[HookloopCallback] = []
    with pytest.raises(OSError, match="full"):
        run()
    assert sorted(folder.glob("hookloop.*")) == [folder / "hookloop.3.pt", folder / "hookloop.6.pt"]
    cut, resumed = bridges[0].history, run().history
    assert cut is not None
    assert resumed is not None
    assert resumed.epoch == [0, 1, 2, 3]
    assert resumed.history["loss"][:2] == cut.history["loss"]


def test_files_of_the_users_in_the_folder_of_the_backup_stay(tmp_path: Path) -> None:
    """Whatever they are called; the states of weights that were replaced are deleted."""
    folder = tmp_path / "backup"
    folder.mkdir()
    theirs = ["hookloop.-1.pt", "hookloop.1.pt.old", "hookloop.best.pt", "my.hookloop.0.pt"]
    for name in theirs:
        (folder / name).write_text("mine")
    keeper = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)

    fit(made(), [HookloopCallback([], backup=keeper)], epochs=3)

    states = ["hookloop.6.pt", "hookloop.9.pt"]
    assert sorted(path.name for path in folder.glob("*hookloop*")) == sorted([*theirs, *states])
    assert {(folder / name).read_text() for name in theirs} == {"mine"}


def test_weights_without_a_state_are_told(tmp_path: Path, capsys: Any) -> None:
    """A backup that was begun without the bridge: the callbacks begin afresh, and it says so."""
    keeper = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(RuntimeError, match="crash"):
        fit(made(), [keeper, Crash(2)], epochs=3)
    bridge = HookloopCallback([Average()], backup=keeper)
    fit(made(), [bridge], epochs=3)
    assert "so the callbacks begin afresh" in capsys.readouterr().out
    assert bridge.history is not None
    assert bridge.history.epoch == [2]


def test_a_backup_of_keras_alone_is_told_to_lack_the_callbacks(tmp_path: Path, capsys: Any) -> None:
    """Who gives it to Keras and not to the bridge hears what to write."""
    keeper = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    fit(made(), [HookloopCallback([Average()]), keeper], epochs=1)
    assert "fix: HookloopCallback([...], backup=BackupAndRestore(...))" in capsys.readouterr().out


def test_a_changed_setting_is_refused(tmp_path: Path) -> None:
    """Before anything is trained, naming both."""
    first, model = HookloopCallback(["early_stopping:patience=4"]), made()
    fit(model, [first], epochs=1)
    second = HookloopCallback(["early_stopping:patience=5"])
    second.load_state_dict(first.state_dict())
    with pytest.raises(StateError, match=r"patience=4; now it has patience=5(.|\n)*fix:"):
        fit(model, [second])
    assert int(model.optimizer.iterations.value) == 3


def test_callbacks_added_and_removed_are_reported(capsys: Any) -> None:
    """Not refused."""
    first, model = HookloopCallback(["early_stopping"]), made()
    fit(model, [first], epochs=1)
    second = HookloopCallback(["reduce_lr_on_plateau"])
    second.load_state_dict(first.state_dict())
    fit(model, [second], epochs=2)
    said = capsys.readouterr().out
    assert "callbacks were added: reduce_lr_on_plateau; removed: early_stopping" in said


def test_two_bridges_keep_their_states_apart(tmp_path: Path) -> None:
    """Each with a folder of its own; one folder for both is refused."""

    def bridges(*folders: str) -> list[HookloopCallback]:
        settings = ("early_stopping:patience=3", "early_stopping:patience=7")
        kept = [keras.callbacks.BackupAndRestore(str(tmp_path / one)) for one in folders]
        return [HookloopCallback([s], backup=k) for s, k in zip(settings, kept, strict=True)]

    with pytest.raises(ArgumentError, match=r"Two HookloopCallbacks(.|\n)*fix: "):
        fit(made(), bridges("same", "same"))
    with pytest.raises(RuntimeError, match="crash"):
        fit(made(), [*bridges("a", "b"), Crash(2)], epochs=3)
    again = bridges("a", "b")
    fit(made(), again, epochs=3)
    assert [one.history and one.history.epoch for one in again] == [[0, 1, 2], [0, 1, 2]]


def test_another_initial_epoch_than_that_of_the_state_is_refused() -> None:
    """It would train epochs twice, or leave some out."""
    first, model = HookloopCallback(["early_stopping"]), made()
    fit(model, [first], epochs=2)
    second = HookloopCallback(["early_stopping"])
    second.load_state_dict(first.state_dict())
    with pytest.raises(StateError, match=r"of epoch 2, and fit\(\) begins with epoch 1"):
        fit(model, [second], initial_epoch=1, epochs=3)


def test_what_is_no_backup_is_refused() -> None:
    """When the bridge is made."""
    with pytest.raises(ArgumentError, match="fix: backup=keras"):
        HookloopCallback([], backup="folder")
