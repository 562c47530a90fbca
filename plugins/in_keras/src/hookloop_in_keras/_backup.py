"""The state of the callbacks in the folder of Keras's BackupAndRestore, beside the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hookloop import files
from hookloop.checkpoints import pt_writer, read_pt
from hookloop.errors import ArgumentError
from hookloop_in_keras._keras import keras
from hookloop_in_keras._loop import Steps
from hookloop_in_keras._stand_in import StandIns

#: States in the folder: the one of the weights there, and the one that they are about to replace.
_KEPT = 2
_NAME = "hookloop.{}.pt"
#: Nothing else in the folder is ours to delete.
_OURS = re.compile(r"hookloop\.(\d+)\.pt", re.ASCII)
Write = Callable[[], tuple[int, Any]]


class Backup:
    """Drives a BackupAndRestore, and has the state of the callbacks saved when it saves.

    A state is named after the calls that the optimizer had seen, which Keras saves with the
    weights: so the two are found together again, also if the process died between their files.

    Args:
        keeper: The callback of Keras.

    Raises:
        ArgumentError: If it is something else.
    """

    def __init__(self, keeper: Any) -> None:
        if not isinstance(keeper, keras.callbacks.BackupAndRestore):
            message = f"backup= is a {type(keeper).__name__}."
            raise ArgumentError(message, fix="backup=keras.callbacks.BackupAndRestore('folder')")
        if "://" in str(keeper.backup_dir):
            message = f"The backup folder {keeper.backup_dir} is not on this machine's disks."
            raise ArgumentError(message, fix="choose a local folder")
        self._keeper = keeper
        self.folder = Path(keeper.backup_dir)
        self.per_batch = keeper.save_freq != "epoch"

    def restore(self, model: Any, params: Mapping[str, Any]) -> Any:
        """Have Keras bring back the weights, and find the state that belongs to them.

        Args:
            model: To fill.
            params: Of the run.

        Returns:
            The state of the callbacks; a sentence if there are weights without one; else None.
        """
        before, model._initial_epoch = model._initial_epoch, None
        self._keeper.set_params(params)
        self._keeper.set_model(model)
        self._keeper.on_train_begin()
        if model._initial_epoch is None:  # nothing was there
            model._initial_epoch = before
            return None
        path = self.folder / _NAME.format(Steps(model.optimizer).now())
        if path.exists():
            return read_pt(path)
        return (
            f"{self.folder} has weights of Keras and no state of callbacks that belongs to them, "
            "so the callbacks begin afresh."
        )

    def save(
        self, model: Any, write: Callable[[], tuple[int, Any]], hook: str, *given: Any
    ) -> None:
        """Call a hook of the keeper; when it saves, what is written goes first.

        Args:
            model: Of the run.
            write: Gives the calls of the optimizer, and the state.
            hook: Name of the hook.
            *given: Its arguments.
        """
        original, saved = model.save_weights, []

        def save_weights(*args: Any, **kwargs: Any) -> Any:
            calls, state = write()
            path = self.folder / _NAME.format(calls)
            files.atomic_write(path, pt_writer(state))
            saved.append(path)
            return original(*args, **kwargs)

        stand_ins = StandIns()
        stand_ins.put(model, "save_weights", save_weights)
        try:
            getattr(self._keeper, hook)(*given)
        finally:
            stand_ins.back()
        if saved:
            self._forget(saved[-1])

    def _forget(self, newest: Path) -> None:
        """Delete the states whose weights have been replaced."""
        names = ((path, _OURS.fullmatch(path.name)) for path in self.folder.iterdir())
        calls = {path: int(name[1]) for path, name in names if name}
        older = [
            path for path in sorted(calls, key=calls.__getitem__) if calls[path] < calls[newest]
        ]
        for path in older[: 1 - _KEPT]:
            files.delete(path)

    def end(self) -> None:
        """Have the backup deleted, as Keras does, after a run that has not failed."""
        self._keeper.on_train_end()
