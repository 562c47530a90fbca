"""Resuming in Lightning: callbacks decide after a restart as they would have without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hookloop_in_lightning import HookloopCallback
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint, OnExceptionCheckpoint
from lightning_runs import Regression, Resumable, few, fit, trainer

from hookloop import Callback
from hookloop.errors import StateError

CHOSEN = [
    "early_stopping:patience=3,min_delta=0.02",
    "reduce_lr_on_plateau:factor=0.5,patience=1,min_delta=0.05",
]
SAVED = {
    "epoch end": {"save_on_train_epoch_end": True},
    "validation end": {"save_on_train_epoch_end": False},
    "inside an epoch": {"every_n_train_steps": 3, "save_on_train_epoch_end": False},
}


class Seen(Callback):
    """Notes the rate and the step at each batch, and the logs of each epoch; has a tensor."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int, float]] = []
        self.total = torch.zeros(2)

    def on_train_begin(self) -> None:
        self.batches, self.total = [], torch.zeros(2)

    def on_train_batch_end(self, loop, batch) -> None:
        self.batches.append((loop.epoch, batch, loop.step, loop.lr))
        self.total = self.total + loop.step

    def on_message(self, text) -> bool:
        self.said = text
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state) -> None:
        self.total = state["total"]


def saver(folder: Path, **settings: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="{epoch}-{step}", save_top_k=-1, **settings)


def rows(callback: HookloopCallback) -> dict[str, list[float]]:
    return {"epoch": callback.history.epoch, **callback.history.history}


@pytest.mark.parametrize("when", SAVED)
def test_a_resumed_run_decides_as_the_uninterrupted_one(when: str, tmp_path: Path) -> None:
    """From every checkpoint: the same rates, steps, history, stop and reason, and the tensor.

    Inside an epoch too, with a loader that goes on there.
    """
    whole, saves = Seen(), saver(tmp_path, **SAVED[when])
    wanted = fit([*CHOSEN, whole], saves, max_epochs=30, data=Resumable())
    assert wanted.history.outcome == "stopped"
    assert len({batch[-1] for batch in whole.batches}) > 1, "the rate was lowered"
    saved = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)

    if when == "inside an epoch":  # after the last batch: a test of its own
        saved = [path for path in saved if int(path.stem.rpartition("=")[2]) % 5]
    assert len(saved) >= 4

    for path in saved[1:-1:2]:
        seen = Seen()
        found = fit([*CHOSEN, seen], max_epochs=30, data=Resumable(), ckpt_path=path)

        assert rows(found) == rows(wanted)
        assert found.history.stop_reason == wanted.history.stop_reason
        assert seen.batches == whole.batches[whole.batches.index(seen.batches[0]) :]
        assert seen.total.equal(whole.total)


def test_inside_an_epoch_the_counters_go_on_though_lightning_feeds_its_first_batches_again(
    tmp_path: Path,
) -> None:
    """With a plain loader (19764): its data are Lightning's; epoch, batch and step are right."""
    whole, seen = Seen(), Seen()
    fit([whole], saver(tmp_path, every_n_train_steps=3))

    fit([seen], ckpt_path=tmp_path / "epoch=0-step=3.ckpt")

    assert seen.batches == whole.batches[3:]


def test_the_mean_of_an_epoch_goes_on_inside_it(tmp_path: Path) -> None:
    """The loss of the epoch has the batches before the restart and those after it."""

    class Numbers(Regression):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) * 0 + batch_idx

    fit([], saver(tmp_path, every_n_train_steps=3), module=Numbers(), max_epochs=1)

    found = fit([], module=Numbers(), max_epochs=1, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")

    assert found.history.history["loss"] == [2.0]  # the mean of 0, 1, 2 | 3, 4


def test_an_epoch_saved_after_its_last_batch_ends_though_lightning_skips_it(tmp_path: Path) -> None:
    """Lightning leaves out its validation when it resumes there; the bridge says so."""
    fit([Seen()], saver(tmp_path, every_n_train_steps=5), max_epochs=2)
    seen = Seen()

    found = fit([seen], max_epochs=3, ckpt_path=tmp_path / "epoch=0-step=5.ckpt")

    assert "saved after the last batch of epoch 0 and before its validation" in seen.said
    assert found.history.epoch == [0, 1, 2]
    assert len(found.history.history["loss"]) == 3
    assert len(found.history.history["val_loss"]) == 2


@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=")  # it looks for one to resume
def test_a_checkpoint_of_an_exception_holds_the_open_epoch(tmp_path: Path) -> None:
    """What Lightning saves when a batch fails: nothing of that batch is in the epoch's logs."""

    class Breaks(Regression):
        def training_step(self, batch, batch_idx):
            if self.current_epoch == 1 and batch_idx == 2:
                raise ZeroDivisionError
            return self.loss(batch) * 0 + batch_idx

    class Numbers(Breaks):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) * 0 + batch_idx

    with pytest.raises(ZeroDivisionError):
        fit([], OnExceptionCheckpoint(tmp_path), module=Breaks(), max_epochs=2)

    found = fit([], module=Numbers(), max_epochs=2, ckpt_path=tmp_path / "on_exception.ckpt")

    assert found.history.history["loss"] == [2.0, 2.0]
    assert list(found.history.history) == ["loss", "val_loss"]


def test_lightnings_finder_of_a_rate_leaves_the_callbacks_alone(tmp_path: Path) -> None:
    """It trains a little before the run, saves and restores: the run is a new one all the same."""

    class Finds(Regression):
        lr = 0.1

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    seen, finder = Seen(), LearningRateFinder(num_training_steps=3, update_attr=True)
    fit([seen], finder, module=Finds(), max_epochs=1, default_root_dir=tmp_path)

    assert [batch[:3] for batch in seen.batches] == [(0, i, i + 1) for i in range(5)]
    assert not hasattr(seen, "said")


def test_a_run_that_was_stopped_stays_stopped(tmp_path: Path, capsys) -> None:
    """No batch is drawn, whatever max_epochs says; the history is as before, and a line says so."""
    module = Regression()
    chosen = ["early_stopping:monitor=loss,patience=1,min_delta=9"]
    wanted = fit(chosen, saver(tmp_path, save_last=True), module=module)
    assert wanted.history.epoch == [0, 1]

    found = fit([*chosen], max_epochs=9, ckpt_path=tmp_path / "last.ckpt")

    assert rows(found) == rows(wanted)
    assert found.history.stop_reason == wanted.history.stop_reason
    said = f"The resumed run has ended already ({found.history.stop_reason}): "
    assert capsys.readouterr().out.count(said) == 1


def test_a_run_that_was_stopped_trains_what_min_epochs_still_asks_for(
    tmp_path: Path, capsys
) -> None:
    """Lightning's minimum holds after a restart, too: then something was left."""
    chosen = ["early_stopping:monitor=loss,patience=1,min_delta=9"]
    fit(chosen, saver(tmp_path, save_last=True))

    found = fit([*chosen], max_epochs=9, min_epochs=4, ckpt_path=tmp_path / "last.ckpt")

    assert found.history.epoch == [0, 1, 2, 3]
    assert "ended already" not in capsys.readouterr().out


class Stopping(lightning.Callback):
    """Has Lightning stop before the first batch."""

    def on_train_start(self, trainer, pl_module) -> None:
        trainer.should_stop = True


def test_a_resumed_run_that_somebody_else_cuts_has_not_ended_already(
    tmp_path: Path, capsys
) -> None:
    """There was something left to train; the reason in the history is another one."""
    fit([], saver(tmp_path, save_last=True), max_epochs=1)

    found = fit([], Stopping(), max_epochs=9, ckpt_path=tmp_path / "last.ckpt")

    assert (found.history.epoch, found.history.outcome) == ([0], "stopped")
    assert found.history.stop_reason == "trainer.should_stop was set"
    assert "ended already" not in capsys.readouterr().out


def test_a_run_that_is_done_is_shown_though_lightning_does_not_begin_it(tmp_path, capsys) -> None:
    """The history is there, and a line says that nothing is left."""
    wanted = fit([], saver(tmp_path, save_last=True))

    found = fit([], ckpt_path=tmp_path / "last.ckpt")

    assert rows(found) == rows(wanted)
    assert capsys.readouterr().out.count("nothing is left to train") == 1


def test_two_bridges_in_one_trainer_keep_their_states_apart(tmp_path: Path) -> None:
    """Each has a key made of the names; of the same names one has to be given a name."""

    def bridges() -> tuple[HookloopCallback, ...]:
        return (
            HookloopCallback(["early_stopping:patience=1,monitor=loss,min_delta=9"], name="a"),
            HookloopCallback(["early_stopping:patience=5"]),
        )

    made = trainer(bridges(), saver(tmp_path, every_n_epochs=1), max_epochs=9)
    made.fit(Regression(), few(), few(16))
    first, second = made.callbacks[0], made.callbacks[1]
    assert first.state_key == "HookloopCallback[a]"
    assert second.state_key == "HookloopCallback[early_stopping]"
    assert first.history.stop_reason != second.history.stop_reason

    again = trainer(bridges(), max_epochs=9)
    path = tmp_path / "epoch=0-step=5.ckpt"
    again.fit(Regression(), few(), few(16), ckpt_path=path, weights_only=True)

    for old, new in zip(made.callbacks[:2], again.callbacks[:2], strict=True):
        assert rows(old) == rows(new)
        assert old.history.stop_reason == new.history.stop_reason


def test_two_bridges_of_one_name_are_refused_by_lightning() -> None:
    """Before anything is trained."""
    alike = (HookloopCallback(["early_stopping"]), HookloopCallback(["early_stopping"]))

    with pytest.raises(RuntimeError, match="state_key` must be unique"):
        trainer(alike)


def test_a_changed_setting_is_refused(tmp_path: Path) -> None:
    """The sentence names both settings; nothing was trained."""
    fit(["early_stopping:patience=2"], saver(tmp_path, save_last=True), max_epochs=1)

    with pytest.raises(StateError, match=r"patience=2; now it has patience=3"):
        fit(["early_stopping:patience=3"], ckpt_path=tmp_path / "last.ckpt")


def test_added_and_removed_callbacks_are_reported(tmp_path: Path) -> None:
    """The others go on where they were, though the key of the state is another one."""
    fit(
        ["early_stopping:patience=9", "terminate_on_nan"],
        saver(tmp_path, save_last=True),
        max_epochs=1,
    )
    seen = Seen()

    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        found = fit(["early_stopping:patience=9", seen], ckpt_path=tmp_path / "last.ckpt")

    assert "callbacks were added: seen" in seen.said
    assert found.history.epoch == [0, 1, 2]


def test_a_checkpoint_without_the_callbacks_says_so(tmp_path: Path, capsys) -> None:
    """They begin afresh; the counters are Lightning's."""
    plain = trainer((), saver(tmp_path, save_last=True), max_epochs=1)
    plain.fit(Regression(), few(), few(16))
    seen = Seen()

    found = fit([seen], max_epochs=2, ckpt_path=tmp_path / "last.ckpt")

    assert "holds no state of these callbacks" in seen.said
    assert found.history.epoch == [1]
    assert seen.batches[0][:3] == (1, 0, 6)


def test_the_state_of_an_earlier_fit_that_never_began_is_forgotten(tmp_path: Path) -> None:
    """A bridge used again without ckpt_path begins afresh."""
    fit([], saver(tmp_path, save_last=True), max_epochs=1)
    bridge = HookloopCallback([])
    with pytest.raises(ZeroDivisionError):
        made = trainer((bridge,))
        module = Regression()
        module.on_train_start = lambda: 1 / 0
        made.fit(module, few(), few(16), ckpt_path=tmp_path / "last.ckpt", weights_only=True)

    trainer((bridge,)).fit(Regression(), few(), few(16))

    assert bridge.history.epoch == [0, 1, 2]
