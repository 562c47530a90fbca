"""Continuing: the same weights, the same best file, the same list of files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hookloop_model_checkpoint import ModelCheckpoint

from hookloop import Callback, CallbackList, Trainer

# Here a callback reports val_score, which the loop cannot know when it starts.
pytestmark = pytest.mark.filterwarnings("ignore:.*Nothing is known to report")


def trainer() -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    )
    return Trainer(model, loss="mse", optimizer="adam:lr=0.05", seed=7, device="cpu")


def fit(callbacks, *, epochs: int = 4, resume: str | None = None) -> Trainer:
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    fitted = trainer()
    fitted.fit(
        (x, x.sum(1, keepdim=True)),
        batch_size=4,
        epochs=epochs,
        validation_split=0.25,
        callbacks=callbacks,
        verbose=0,
        resume=resume,
    )
    return fitted


def everything(one: Trainer) -> list[torch.Tensor]:
    states = one.optimizer.state_dict()["state"].values()
    moments = [value for state in states for value in state.values()]
    return [*one.module.state_dict().values(), *moments, torch.get_rng_state()]


@pytest.mark.parametrize(
    ("settings", "resume"),
    [
        ({"filepath": "{epoch}-{step}.pt"}, "2-10.pt"),
        ({"filepath": "{epoch}-{step}.pt", "async_save": False}, "1-5.pt"),
        ({"filepath": "{epoch}-{step}.pt", "save_freq": 3}, "2-6.pt"),
        ({"filepath": "{epoch}-{step}.keras", "save_freq": "4 steps"}, "3-12.keras"),
    ],
    ids=["epoch boundary", "in place", "inside an epoch", "by steps"],
)
def test_a_resumed_run_is_the_uninterrupted_run(settings, resume: str) -> None:
    """Weights, optimizer, random numbers and history are equal bit for bit."""
    whole = fit([ModelCheckpoint(**settings)])
    expected = everything(whole)
    resumed = fit([ModelCheckpoint(**settings)], resume=resume)
    for one, other in zip(expected, everything(resumed), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert resumed.history.history == whole.history.history


def test_a_resumed_run_saves_at_the_steps_of_the_uninterrupted_run(folder: Path) -> None:
    """The count of batches since the last save survives: 5 batches an epoch, a save every 7."""

    def callbacks():
        return [ModelCheckpoint("{step}.pt", save_freq=7), ModelCheckpoint("epoch-{epoch}.ckpt")]

    fit(callbacks(), epochs=2)
    assert [path.name for path in folder.glob("*.pt")] == ["7.pt"]
    fit(callbacks(), epochs=4, resume="epoch-2.ckpt")
    assert sorted(path.name for path in folder.glob("*.pt")) == ["14.pt", "7.pt"]


class Reports(Callback):
    """Reports given values as a metric, by the number of the epoch."""

    def __init__(self, values) -> None:
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_score"] = self.values[epoch]


def test_kept_files_survive_a_restart(folder: Path) -> None:
    """The files of before are ranked with those of after, and deleted by them."""
    values = [0.5, 0.9, 0.1, 0.7, 0.8]

    def callbacks():
        return [
            Reports(values),
            ModelCheckpoint("{epoch}.pt", "val_score", keep_best=2),
            ModelCheckpoint("last.ckpt"),
        ]

    fit(callbacks(), epochs=3)
    assert sorted(path.name for path in folder.glob("*.pt")) == ["1.pt", "2.pt"]
    fit(callbacks(), epochs=5, resume="last.ckpt")
    assert sorted(path.name for path in folder.glob("*.pt")) == ["2.pt", "5.pt"]


@pytest.mark.parametrize("best_first", [True, False], ids=["best, last", "last, best"])
def test_a_worse_epoch_after_a_restart_does_not_replace_the_best_file(best_first: bool) -> None:
    """Also where the state was taken before the best file was replaced: the file itself knows."""
    values = [0.2, 0.9, 0.5, 0.6]

    def callbacks():
        savers = [
            ModelCheckpoint("best.pt", "val_score", save_best_only=True),
            ModelCheckpoint("last.pt"),
        ]
        return [Reports(values), *(savers if best_first else savers[::-1])]

    fit(callbacks(), epochs=2)
    chosen = callbacks()
    fit(chosen, epochs=4, resume="last.pt")
    assert torch.load("best.pt", weights_only=True)["loop"]["epoch"] == 2
    assert next(c for c in chosen[1:] if c.save_best_only).best == 0.9


def test_a_file_behind_its_saved_state_is_believed(run) -> None:
    """A process that died before it wrote the best file goes on from the file that is there."""
    run(ModelCheckpoint("m.pt", save_best_only=True), values=[0.5])
    checkpoint = ModelCheckpoint("m.pt", save_best_only=True)
    callbacks = CallbackList([checkpoint], model=torch.nn.Linear(1, 1, bias=False))
    state = torch.load("m.pt", weights_only=True)
    state["callbacks"]["model_checkpoint"]["state"]["monitor"]["best"] = 0.3
    callbacks.loop.load_state_dict(state)
    callbacks.on_train_begin()
    assert checkpoint.best == 0.5


def test_the_best_value_survives_when_its_file_was_taken_away() -> None:
    """Whoever moves the best file away has it; nothing worse takes its name."""
    values = [0.9, 0.5, 0.6]

    def callbacks():
        return [
            Reports(values),
            ModelCheckpoint("best.pt", "val_score", save_best_only=True),
            ModelCheckpoint("last.pt"),
        ]

    fit(callbacks(), epochs=1)
    Path("best.pt").unlink()
    fit(callbacks(), epochs=3, resume="last.pt")
    assert not Path("best.pt").exists()


def test_kept_files_that_are_gone_are_forgotten(run) -> None:
    """What somebody deleted takes no place among the best."""
    run(ModelCheckpoint("{epoch}.pt", keep_best=2), values=[3, 2])
    state = torch.load("2.pt", weights_only=True)["callbacks"]["model_checkpoint"]["state"]
    Path("1.pt").unlink()
    checkpoint = ModelCheckpoint("{epoch}.pt", keep_best=2)
    checkpoint.load_state_dict(state)
    assert [one["path"] for one in checkpoint.state_dict()["kept"]["files"]] == ["2.pt"]


# -- a new run at an old path ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.pt", "m.weights.pt", "m.safetensors", "m.keras"])
def test_a_new_run_does_not_replace_a_better_file(run, capsys, name: str) -> None:
    """The file says for which value it was saved, whatever its format; the user is told."""
    run(ModelCheckpoint(name, save_best_only=True), values=[0.5, 0.3])
    before = Path(name).read_bytes()
    checkpoint = ModelCheckpoint(name, save_best_only=True)
    run(checkpoint, values=[0.4])
    assert Path(name).read_bytes() == before
    assert checkpoint.best == 0.3
    assert capsys.readouterr().out == (
        f"model_checkpoint: {name} is there already and holds val_loss 0.30000, so only a better "
        "one replaces it; to begin afresh, move it or choose another path.\n"
    )


def test_a_new_run_replaces_the_file_once_it_is_better(run) -> None:
    """Better than what is there, that is."""
    run(ModelCheckpoint("m.pt", save_best_only=True), values=[0.3])
    run(ModelCheckpoint("m.pt", save_best_only=True), values=[0.4, 0.2])
    assert torch.load("m.pt", weights_only=True)["model"]["weight"].item() == 2


@pytest.mark.parametrize("content", ["of another program", "", "{}"])
def test_a_file_of_unknown_worth_is_replaced_and_that_is_said(run, capsys, content: str) -> None:
    """As in Keras, but not silently."""
    Path("m.pt").write_text(content)
    run(ModelCheckpoint("m.pt", save_best_only=True), values=[0.4])
    assert torch.load("m.pt", weights_only=True)["format"] == "hookloop.state"
    assert "holds no val_loss, so the first save replaces it" in capsys.readouterr().out


def test_the_value_of_another_metric_is_not_compared(run) -> None:
    """0.9 of one quantity is not better or worse than 0.5 of another."""
    run(ModelCheckpoint("m.pt", "acc", save_best_only=True), values=[0.9], key="acc")
    checkpoint = ModelCheckpoint("m.pt", save_best_only=True)
    run(checkpoint, values=[0.5])
    assert checkpoint.best == 0.5


def test_a_threshold_counts_beside_an_older_file(run) -> None:
    """The better of the two has to be beaten."""
    run(ModelCheckpoint("m.pt", save_best_only=True), values=[0.3])
    checkpoint = ModelCheckpoint("m.pt", save_best_only=True, initial_value_threshold=0.1)
    run(checkpoint, values=[0.2])
    assert checkpoint.best == 0.1


def test_a_second_fit_with_one_instance_heeds_the_file_of_the_first(run) -> None:
    """An instance begins afresh, the file does not."""
    checkpoint = ModelCheckpoint("m.pt", save_best_only=True)
    run(checkpoint, values=[0.5, 0.3])
    run(checkpoint, values=[0.4])
    assert torch.load("m.pt", weights_only=True)["model"]["weight"].item() == 2
