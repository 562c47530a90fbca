"""Settings and folders that make no sense are refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hookloop_backup_and_restore import BackupAndRestore
from torch.nn import Linear

from hookloop import CallbackList, files, load
from hookloop.errors import CapabilityError, FileError, SettingError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backup_dir": ""}, "backup_dir='' is no name of a folder"),
        ({"backup_dir": " "}, "backup_dir=' ' is no name of a folder"),
        ({"backup_dir": None}, "backup_dir=None is no name of a folder"),
        ({"save_freq": False}, "save_freq=False is no positive whole number"),
        ({"save_freq": True}, "save_freq=True is no positive whole number"),
        ({"save_freq": 0}, "save_freq=0 is no positive whole number"),
        ({"save_freq": -5}, "save_freq=-5 is no positive whole number"),
        ({"save_freq": 2.5}, "save_freq=2.5 is no positive whole number"),
        ({"save_freq": "often"}, "save_freq='often' cannot be read"),
        ({"save_freq": "3 epocs"}, "save_freq='3 epocs': no unit. Did you mean 'epochs'?"),
        ({"keep": 0}, "keep=0 is no positive whole number"),
        ({"keep": True}, "keep=True is no positive whole number"),
        ({"keep": 1, "double_checkpoint": True}, "double_checkpoint=True, but keep=1"),
        ({"on_save_error": "ignore"}, "on_save_error='ignore' is not offered"),
        (
            {"save_before_preemption": True, "save_on_signals": False},
            "save_before_preemption=True and save_on_signals=False",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    """What was written is named, and there is a fix."""
    with pytest.raises(SettingError) as caught:
        BackupAndRestore(**{"backup_dir": "backup", **settings})
    assert str(caught.value).startswith(f"backup_and_restore: {said}")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("settings", "saves"),
    [
        ({}, True),
        ({"save_before_preemption": True}, True),
        ({"save_before_preemption": False}, False),
        ({"save_on_signals": False}, False),
    ],
)
def test_the_older_name_of_saving_on_signals_is_understood(
    settings: dict[str, bool], saves: bool
) -> None:
    """As in TensorFlow 2; without saving on signals the batch hook costs nothing."""
    backup = BackupAndRestore("backup", **settings)
    assert (backup.save_on_signals, backup.on_batch_checkpoint is not None) == (saves, saves)


@pytest.mark.reliability("D2")
def test_a_loop_that_would_die_of_sigusr1_is_refused() -> None:
    """Before training: nobody handles signals where the hooks are called by hand."""
    hooks = CallbackList([BackupAndRestore("backup", save_on_sigusr1=True)], model=Linear(1, 1))
    with pytest.raises(CapabilityError, match=r"in CallbackList heeds no signals.\nfix: run it by"):
        hooks.on_train_begin()


def test_it_is_chosen_by_name() -> None:
    """With Keras's arguments in Keras's order."""
    backup = load("backup_and_restore", backup_dir=Path("b"), save_freq="10 min")
    assert type(backup) is BackupAndRestore
    positional = BackupAndRestore("b", 5, True, False)
    assert (positional.save_freq, positional.delete_checkpoint) == (5, False)


@pytest.mark.parametrize("backup_dir", ["file", "file/backup"])
def test_a_file_in_the_way_is_found_before_training(run, folder: Path, backup_dir: str) -> None:
    """The error says which path, and what to do."""
    (folder / "file").write_bytes(b"")
    with pytest.raises(FileError) as caught:
        run(BackupAndRestore(backup_dir))
    assert str(caught.value).endswith("fix: choose a folder: a part of the path is a file")
    assert run.trainer.history.epoch == []


def test_two_callbacks_of_a_run_cannot_share_a_folder(run) -> None:
    """They are named, and the lock is free again."""
    with pytest.raises(FileError) as caught:
        run(BackupAndRestore("backup"), BackupAndRestore("backup"))
    assert str(caught.value).startswith("backup_and_restore#2 and backup_and_restore both write")
    run(BackupAndRestore("backup"), epochs=1)


def test_a_folder_that_another_run_uses_is_refused(run, folder: Path) -> None:
    """With who holds it; its states stay, and it is free when that run is over."""
    other = CallbackList([BackupAndRestore("backup")], model=None)
    other.on_train_begin()
    other.on_epoch_end(0)
    with pytest.raises(FileError, match=r"backup is in use by process \d+ on "):
        run(BackupAndRestore("backup"))
    other.on_epoch_end(1)
    files.background(lambda: None).result()
    assert list(run.places().values()) == [(1, 0), (2, 0)]
    other.on_train_end()
    run(BackupAndRestore("backup"), epochs=1)
    assert list(folder.iterdir()) == []
