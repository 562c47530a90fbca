"""Going on: from where, from which state, and when not."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_backup_and_restore import BackupAndRestore

from hookloop import Callback, CallbackList, Trainer
from hookloop.checkpoints import load_state, save_state
from hookloop.errors import CapabilityError, StateError


def same(one: Trainer, other: Trainer) -> bool:
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and one.history.history == other.history.history


def test_the_example_of_keras(folder: Path) -> None:
    """10 epochs, broken off after 4: 6 are run, and the history has all 10 (in Keras: 6)."""

    class InterruptingCallback(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                raise RuntimeError("Interrupting!")

    class Counts(Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    data = (torch.arange(100.0).reshape(5, 20), torch.zeros(5, 1))
    trainer = Trainer(torch.nn.Linear(20, 1), loss="mse", optimizer="sgd:lr=1e-5", seed=0)
    callback = BackupAndRestore(backup_dir="backup")
    with pytest.raises(RuntimeError, match="Interrupting!"):
        trainer.fit(
            data, epochs=10, batch_size=1, callbacks=[callback, InterruptingCallback()], verbose=0
        )
    counts = Counts()
    history = trainer.fit(data, epochs=10, batch_size=1, callbacks=[callback, counts], verbose=0)
    assert (counts.epochs, len(history.history["loss"])) == (6, 10)


@pytest.mark.parametrize(
    ("save_freq", "line"),
    [
        ("epoch", "going on after epoch 2 (step 8), from backup/state-000002."),
        (3, "going on in epoch 3, after batch 1 (step 9), from backup/state-000003."),
    ],
)
def test_where_the_run_goes_on_is_said(run, capsys, save_freq: int | str, line: str) -> None:
    """In one line, epochs and batches counted from 1."""
    whole = run()
    run.broken(2, 2, save_freq=save_freq)
    resumed = run(BackupAndRestore("backup"))
    assert capsys.readouterr().out == f"backup_and_restore: {line}\n"
    assert same(resumed, whole)


def test_an_empty_or_new_folder_is_nothing(run, folder: Path, capsys) -> None:
    """The run begins, and says nothing."""
    (folder / "empty").mkdir()
    run(BackupAndRestore("empty"))
    run(BackupAndRestore("deep/new"))
    assert capsys.readouterr().out == ""


def test_a_second_fit_begins_afresh(run, capsys) -> None:
    """Nothing of the run before is left over, in the same trainer and callback (W3)."""
    run.broken(2)
    backup = BackupAndRestore("backup")
    trainer = run(backup)
    x = torch.zeros(16, 3)
    for _ in range(2):
        again = trainer.fit((x, x[:, :1]), batch_size=4, epochs=3, callbacks=[backup], verbose=0)
        assert again.epoch == [0, 1, 2]
    assert capsys.readouterr().out.count("going on") == 1


def test_a_moved_folder_goes_on_too(run) -> None:
    """What it is called, and how often it is saved, is no part of the state."""
    whole = run()
    run.broken(2, 2, save_freq=3)
    Path("backup").rename("elsewhere")
    assert same(run(BackupAndRestore("elsewhere", save_freq="epoch", keep=5)), whole)


def test_a_resumed_run_saves_at_the_same_batches(run) -> None:
    """The count goes on: every 3 batches of 4 an epoch."""
    run.broken(2, 0, save_freq=3, keep=9)
    before = run.places()
    assert list(before.values()) == [(0, 3), (1, 2)]
    run.broken(3, 3, save_freq=3, keep=9)
    assert list(run.places().values()) == [(0, 3), (1, 2), (2, 1), (2, 4), (3, 3)]


@pytest.mark.reliability("C9")
def test_states_are_chosen_by_number_and_not_by_time(run, capsys) -> None:
    """Clocks are set back, and copies are new."""
    run.broken(3)
    os.utime("backup/state-000002", (2e9, 2e9))
    os.utime("backup/state-000003", (1e9, 1e9))
    run(BackupAndRestore("backup"))
    assert "from backup/state-000003." in capsys.readouterr().out


# -- damage ------------------------------------------------------------------------------------


def damage(state: Path, how: str) -> None:
    file = state / ("state.json" if how == "half of it" else "tensors.safetensors")
    data = file.read_bytes()
    if how == "one bit":
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif how == "half of it":
        file.write_bytes(data[: len(data) // 2])
    elif how == "a file is gone":
        file.unlink()
    elif how == "no manifest":
        (state / "manifest.json").unlink()
    else:
        (state / "manifest.json").write_bytes(b"\0" * 100)


DAMAGES = ["one bit", "half of it", "a file is gone", "no manifest", "zeros for a manifest"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_passed_over(run, folder: Path, capsys, how: str) -> None:
    """With one line; the one before is used, the result is the same, and the folder is gone."""
    whole = run()
    run.broken(3)
    damage(Path("backup/state-000003"), how)
    resumed = run(BackupAndRestore("backup"))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("backup_and_restore: backup/state-000003")
    assert first.endswith(" The state before it is used.")
    assert second.endswith("going on after epoch 2 (step 8), from backup/state-000002.")
    assert same(resumed, whole)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_replaced_by_the_next_save(run, how: str) -> None:
    """Not before: until then everything is as it was found."""
    run.broken(3)
    damage(Path("backup/state-000003"), how)
    run.broken(2, 1)
    assert sorted(path.name for path in Path("backup").glob("state-*")) == [
        "state-000002",
        "state-000003",
    ]
    run.broken(3, 1)
    assert run.places() == {"state-000002": (2, 0), "state-000004": (3, 0)}


@pytest.mark.reliability("C6")
def test_nothing_begins_where_all_states_are_damaged(run, folder: Path) -> None:
    """The error has every path with its reason, and the folder is as it was."""
    run.broken(2)
    for number in (1, 2):
        damage(Path(f"backup/state-00000{number}"), "one bit")
    with pytest.raises(StateError) as caught:
        run(BackupAndRestore("backup"))
    tensors = [f"backup/state-00000{number}/tensors.safetensors" for number in (2, 1)]
    said = re.sub(r"\b[0-9a-f]{16}\b", "SUM", str(caught.value))
    reason = "is damaged: its sha256 is SUM, and its manifest says SUM."
    assert said == (
        "backup_and_restore: no state in backup is intact, so the run cannot go on:\n"
        f"  {tensors[0]} {reason}\n"
        f"  {tensors[1]} {reason}\n"
        "fix: put an intact one there; to begin afresh, move backup away"
    )
    assert run.trainer.history.epoch == []
    assert len(list(Path("backup").glob("state-*"))) == 2


# -- another run ---------------------------------------------------------------------------------


def test_a_state_of_another_model_is_refused(run) -> None:
    """Naming what differs and what can be done; nothing is changed, and the lock is free again."""
    run.broken(2)
    for _ in range(2):
        with pytest.raises(StateError) as caught:
            run(BackupAndRestore("backup"), width=5)
    message, fix = str(caught.value).split("\nfix: ")
    assert message.startswith(
        "backup_and_restore: this run cannot go on from backup/state-000002. "
        "The state is of another model: 0.weight has shape (3, 3), this model (5, 3)"
    )
    assert fix == (
        "build the model as it was when the state was saved; to begin the run afresh, move backup "
        "away, or pass another backup_dir="
    )
    assert caught.value.__suppress_context__  # or a traceback tells the same twice
    assert list(run.places().values()) == [(1, 0), (2, 0)]


def test_other_settings_of_a_callback_are_refused(run) -> None:
    """A run with another patience would be another run."""

    class Waits(Callback):
        def __init__(self, patience: int) -> None: ...

        def state_dict(self) -> dict[str, int]:
            return {"wait": 0}

        def load_state_dict(self, state: Any) -> None: ...

    run.broken(2, None, Waits(patience=3))
    with pytest.raises(StateError, match=r"patience=3; now it has patience=4.*\nfix: .*backup_dir"):
        run(Waits(patience=4), BackupAndRestore("backup"))


@pytest.mark.parametrize(
    ("broken_in", "epochs"), [(1, "after epoch 2"), (3, "after epoch 3")], ids=["older", "newer"]
)
def test_beside_resume_the_later_state_counts(run, capsys, broken_in: int, epochs: str) -> None:
    """Started again, `fit(resume=...)` goes on from the backup once that is further on."""

    class Saves(Callback):
        def on_epoch_checkpoint(self, epoch: int) -> None:
            if epoch == 1:
                save_state("two.pt", self.loop.state_dict())

    whole = run(Saves())
    run.broken(broken_in)
    resumed = run(BackupAndRestore("backup"), resume="two.pt")
    assert same(resumed, whole)
    said = capsys.readouterr().out
    older = "the run is resumed from a later state than after epoch 1 (step 4)"
    assert (older if broken_in == 1 else f"going on {epochs}") in said


def test_a_loop_without_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before training, naming what the host lacks."""
    callbacks = CallbackList([BackupAndRestore("backup")], model=None)
    monkeypatch.setattr("hookloop.callback_list.ListLoop.features", frozenset())
    with pytest.raises(CapabilityError, match="backup_and_restore needs state"):
        callbacks.on_train_begin()


def test_a_loop_of_ones_own_goes_on() -> None:
    """The weights, the callbacks and the number of the next epoch are those of the broken run."""

    def begin() -> tuple[CallbackList, torch.nn.Linear]:
        model = torch.nn.Linear(1, 1)
        callbacks = CallbackList(["backup_and_restore:backup_dir=backup"], model=model)
        callbacks.on_train_begin()
        return callbacks, model

    callbacks, model = begin()
    with torch.no_grad():
        model.weight.fill_(7)
    callbacks.on_epoch_end(0)
    callbacks.on_exception(RuntimeError())
    callbacks, model = begin()
    assert (callbacks.loop.epoch, model.weight.item()) == (1, 7)
    callbacks.on_train_end()


def test_the_last_state_before_an_exception_is_saved_if_asked_for(run) -> None:
    """One batch before, where all that the broken run had decided was whole."""
    whole = run()
    run.broken(2, 2, save_on_exception=True)
    assert load_state("backup/state-000003")["loop"]["batch"] == 2
    assert same(run(BackupAndRestore("backup")), whole)
    assert not Path("backup").exists()


def test_an_exception_of_a_run_that_failed_saves_nothing(run) -> None:
    """Its weights are what nobody wants to go on from."""

    class Diverges(Callback):
        def on_train_batch_end(self, batch: int) -> None:
            if self.loop.epoch == 1:
                self.loop.stop("the loss is nan", failed=True)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(BackupAndRestore("backup", save_on_exception=True), Diverges())
    assert list(run.places().values()) == [(1, 0)]
    shutil.rmtree("backup")
