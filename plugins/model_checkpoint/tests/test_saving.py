"""What is saved, when, under which name, and what is said about it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hookloop_model_checkpoint import ModelCheckpoint

import hookloop
from hookloop import Callback, CallbackList, Trainer, checkpoints
from hookloop.errors import StateError

NAN = math.nan


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 1, 16).reshape(-1, 1)
    return x, 3 * x


def fitted(*callbacks, epochs: int = 1, **options) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(
        torch.nn.Linear(1, 1), loss="mse", optimizer="adam:lr=0.1", seed=0, device="cpu"
    )
    trainer.fit(
        data(), batch_size=4, epochs=epochs, callbacks=list(callbacks), verbose=0, **options
    )
    return trainer


# -- formats -------------------------------------------------------------------------------


@pytest.mark.parametrize("async_save", [True, False], ids=["background", "in place"])
@pytest.mark.parametrize("name", ["m.pt", "m.h5", "m.hdf5", "m.keras", "m.ckpt", "m"])
def test_a_file_holds_the_whole_state(name: str, async_save: bool) -> None:
    """Any name is a name; what is in it loads without running code."""
    trainer = fitted(ModelCheckpoint(name, async_save=async_save))
    saved = torch.load(name, weights_only=True)
    assert saved["format"] == "hookloop.state"
    assert saved["loop"]["step"] == 4
    assert saved["model"]["weight"].equal(trainer.module.weight)
    assert saved["optimizers"][0]["state"][0]["step"] == 4
    assert {*checkpoints.load_state(name), "made"} == saved.keys()


@pytest.mark.parametrize(
    ("name", "weights_only"),
    [("m.weights.pt", False), ("m.weights.h5", False), ("m.pt", True), ("m.keras", True)],
)
def test_a_file_of_weights_is_a_plain_state_dict(name: str, weights_only: bool) -> None:
    """The one line that everybody knows loads it."""
    checkpoint = ModelCheckpoint(name, save_weights_only=weights_only)
    trainer = fitted(checkpoint)
    model = torch.nn.Linear(1, 1)
    model.load_state_dict(torch.load(name, weights_only=True))
    assert model.weight.equal(trainer.module.weight)
    assert checkpoint.save_weights_only


def test_safetensors_hold_weights() -> None:
    """They load with the library of that name, and with load_weights."""
    import safetensors.torch

    trainer = fitted(ModelCheckpoint("m.safetensors", monitor="loss", save_best_only=True))
    assert safetensors.torch.load_file("m.safetensors")["weight"].equal(trainer.module.weight)
    model = torch.nn.Linear(1, 1)
    hookloop.load_weights(model, "m.safetensors")
    assert model.bias.equal(trainer.module.bias)


def test_tied_weights_are_written_once(folder: Path) -> None:
    """A copy of the state shares what the state shares."""
    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Linear(100, 100))
    model[1].weight = model[0].weight
    callbacks = CallbackList([ModelCheckpoint("m.weights.pt")], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0)
    callbacks.on_train_end()
    assert Path("m.weights.pt").stat().st_size < 60_000
    saved = torch.load("m.weights.pt", weights_only=True)
    assert saved["0.weight"].equal(model[1].weight)


def test_a_state_that_could_not_be_loaded_again_is_refused_by_name(run) -> None:
    """What is no plain data is found when saving, not when everything depends on loading."""

    class Odd(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.seen = {1, 2}

        def state_dict(self):
            return {"seen": getattr(self, "seen", None)}

        def load_state_dict(self, state):
            pass

    with pytest.raises(StateError, match=r"holds a set at state\['callbacks'\]\['odd'\]"):
        run(Odd(), ModelCheckpoint("m.pt"), values=[1])
    assert not Path("m.pt").exists()


def test_a_view_of_much_is_saved_as_what_it_shows(run) -> None:
    """A row that a callback keeps of a batch does not bring the batch with it."""

    class Keeps(Callback):
        row = torch.zeros(1000, 1000)[0]

        def state_dict(self):
            return {"row": self.row}

        def load_state_dict(self, state):
            pass

    run(Keeps(), ModelCheckpoint("m.pt"), values=[1])
    assert Path("m.pt").stat().st_size < 50_000


# -- when -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save_freq", "saved"),
    [
        ("epoch", ["1-4", "2-8", "3-12"]),
        ("2 epochs", ["2-8"]),
        (3, ["1-3", "2-6", "3-9", "3-12"]),
        ("5 steps", ["2-5", "3-10"]),
        ("6 batches", ["2-6", "3-12"]),
    ],
)
def test_it_saves_as_often_as_it_is_told(folder: Path, save_freq, saved: list[str]) -> None:
    """Three epochs of four batches; the path holds epoch and step."""
    fitted(ModelCheckpoint("{epoch}-{step}.pt", save_freq=save_freq), epochs=3)
    assert sorted(path.stem for path in folder.iterdir()) == sorted(saved)


def test_period_counts_epochs(folder: Path) -> None:
    """The older name still works."""
    fitted(ModelCheckpoint("{epoch}.pt", period=2), epochs=5)
    assert names(folder) == ["2.pt", "4.pt"]


class Clock(Callback):
    """Lets seconds pass before every batch, or every epoch."""

    def __init__(self, *, batch: int = 0, epoch: int = 0) -> None:
        self.now, self.batch, self.epoch = 0, batch, epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.now += self.batch

    def on_epoch_end(self, epoch, logs=None):
        self.now += self.epoch


def timed(clock: Clock, filepath: str, save_freq: str) -> ModelCheckpoint:
    class Timed(ModelCheckpoint):
        pass

    Timed.clock = staticmethod(lambda: clock.now)
    return Timed(filepath, save_freq=save_freq)


def test_it_saves_by_the_clock(folder: Path) -> None:
    """Ten seconds a batch and a save a minute: after the sixth and the twelfth of twelve."""
    clock = Clock(batch=10)
    fitted(clock, timed(clock, "{epoch}-{batch}.pt", "1 min"), epochs=3)
    assert names(folder) == ["2-2.pt", "3-4.pt"]


def test_it_saves_by_the_clock_where_there_are_no_batch_hooks(folder: Path, run) -> None:
    """Epochs are looked at too."""
    clock = Clock(epoch=20)
    run(clock, timed(clock, "{epoch}.pt", "30 s"), values=[1, 1, 1, 1])
    assert names(folder) == ["2.pt", "4.pt"]


def test_a_window_of_gradients_cut_by_the_end_of_the_epoch_has_logs() -> None:
    """The loss of its last batch is there for the path and for the comparison."""
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", accumulate=3)
    checkpoint = ModelCheckpoint("m.pt", "loss", save_freq="2 steps", save_best_only=True)
    trainer.fit(data(), batch_size=4, callbacks=[checkpoint], verbose=0)
    assert Path("m.pt").exists()


def test_a_run_that_failed_saves_nothing_more(folder: Path) -> None:
    """A callback that found the run broken is believed."""

    class Judge(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.loop.stop("broken", failed=True)

    fitted(Judge(), ModelCheckpoint("{epoch}.pt"), epochs=3)
    assert names(folder) == ["1.pt"]


@pytest.mark.parametrize(
    ("settings", "values", "saved", "best"),
    [
        ({}, [3, 4, 2, 2, 1], [1, 3, 5], 1),
        ({"mode": "max"}, [3, 4, 2, 5], [1, 2, 4], 5),
        ({"monitor": "val_acc"}, [0.3, 0.2, 0.4], [1, 3], 0.4),
        ({"initial_value_threshold": 2.5}, [3, 2.5, 2, 2.2], [3], 2),
        ({"mode": "max", "initial_value_threshold": -1.0}, [-2, -0.5], [2], -0.5),
        ({}, [NAN, 3, NAN, 2], [2, 4], 2),
        ({}, [NAN, NAN], [], None),
        ({}, [math.inf, 1], [2], 1),
    ],
)
def test_save_best_only(folder: Path, run, settings, values, saved, best) -> None:
    """Strictly better values are saved; NaN is never better, nor ever the best."""
    checkpoint = ModelCheckpoint("{epoch}.pt", save_best_only=True, **settings)
    run(checkpoint, values=values, key=settings.get("monitor", "val_loss"))
    assert names(folder) == [f"{epoch}.pt" for epoch in saved]
    assert checkpoint.best == best


def test_epochs_without_the_metric_are_not_saved_as_the_best(folder: Path, run) -> None:
    """With validation every second epoch, the others do not replace the best file."""
    with pytest.warns(UserWarning, match="'val_loss' was not reported"):
        run(ModelCheckpoint("{epoch}.pt", save_best_only=True), values=[None, 2, None, 1])
    assert names(folder) == ["2.pt", "4.pt"]


def test_a_metric_that_never_comes_is_said_again_at_the_end(run) -> None:
    """Nobody finds out after a night that nothing was saved."""
    with pytest.warns(UserWarning, match="'val_loss' was") as caught:
        run(ModelCheckpoint("m.pt", save_best_only=True), values=[None, None])
    assert ["was never reported in this run" in str(one.message) for one in caught] == [False, True]


def test_its_own_state_in_the_file_speaks_of_the_file(run) -> None:
    """The best value, and the list of files, are those after this save."""
    run(ModelCheckpoint("{epoch}.pt", keep_best=1), values=[2, 1])
    state = torch.load("2.pt", weights_only=True)["callbacks"]["model_checkpoint"]["state"]
    assert state["monitor"]["best"] == 1
    assert state["kept"] == {
        "files": [{"path": "2.pt", "epoch": 2, "value": 1.0}],
        "doomed": ["1.pt"],
    }


# -- names and words --------------------------------------------------------------------------


def test_values_and_counters_stand_in_the_path(folder: Path) -> None:
    """epoch and batch count from 1, step counts optimizer steps; folders are made."""
    fitted(ModelCheckpoint("e{epoch:02d}/b{batch}-s{step}-{loss:.0f}.pt", save_freq=3), epochs=1)
    assert [str(p.relative_to(folder)) for p in folder.rglob("*.pt")] == ["e01/b3-s3-1.pt"]


def test_a_name_that_is_missing_becomes_na_and_is_said_once(folder: Path, run) -> None:
    """Nothing is lost for the sake of a name."""
    with pytest.warns(UserWarning, match="val_acc was not reported and is written as 'na'") as all_:
        run(ModelCheckpoint("{epoch}-{val_acc:.2f}.pt"), values=[1, 2])
    assert len(all_) == 1
    assert names(folder) == ["1-na.pt", "2-na.pt"]


def test_it_speaks_as_keras_does(run, capsys) -> None:
    """verbose=1 with save_best_only."""
    run(ModelCheckpoint("m.pt", save_best_only=True, verbose=1), values=[0.5, 0.4, 0.6, NAN])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: val_loss improved from None to 0.50000, saving model to m.pt",
        "Epoch 2: val_loss improved from 0.50000 to 0.40000, saving model to m.pt",
        "Epoch 3: val_loss did not improve from 0.40000",
        "Epoch 4: val_loss did not improve from 0.40000",
    ]


@pytest.mark.parametrize(
    ("verbose", "said"), [(0, ""), (1, "Epoch 1: saving model to 1.pt\n")], ids=["quiet", "verbose"]
)
def test_it_says_what_it_saves_only_when_asked(run, capsys, verbose: int, said: str) -> None:
    """Without save_best_only there is nothing to compare."""
    run(ModelCheckpoint("{epoch}.pt", verbose=verbose), values=[0.5])
    assert capsys.readouterr().out == said
