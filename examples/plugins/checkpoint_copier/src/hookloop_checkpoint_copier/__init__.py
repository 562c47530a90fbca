"""checkpoint_copier: a second copy of every checkpoint, in another folder."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from hookloop import Callback, files, hookimpl
from hookloop.errors import SettingError

__all__ = ["CheckpointCopier"]
__version__ = "0.1.0"


def copy(source: str, target: Path) -> None:
    """Copy a file, so that at every instant the old or the new copy is there whole."""
    with open(source, "rb") as file:
        files.atomic_write(target, lambda copied: shutil.copyfileobj(file, copied))


class CheckpointCopier(Callback):
    """Copies every checkpoint that another callback saves into a folder, in the background.

    It knows nothing of who saves: it implements the hook ``on_checkpoint_saved``, which
    model_checkpoint, for one, brings. Where nobody brings that hook, it does nothing.

    Args:
        folder: Where to; it is made. A copy has the name of the file.

    Raises:
        SettingError: If ``folder`` is empty.
    """

    hook_api = 1
    observer = True  # a copy that fails is no reason to end a run
    ranks = "zero"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        if not self.folder:
            message = "checkpoint_copier: folder is empty."
            raise SettingError(message, fix="folder='backup', or another path")
        self._copies: list[Future[None]] = []

    def on_train_begin(self) -> None:
        self._copies = []

    @hookimpl(optionalhook=True)
    def on_checkpoint_saved(self, path: str) -> None:
        self._settle(wait=False)
        # The one writer thread: whatever is asked of it later, a deletion too, comes after this.
        job = partial(copy, path, Path(self.folder) / Path(path).name)
        self._copies.append(files.background(job))

    @hookimpl(trylast=True)  # after the last checkpoint was saved
    def on_train_end(self) -> None:
        self._settle(wait=True)

    def _settle(self, *, wait: bool) -> None:
        """Take note of the copies that are done, and raise what one of them raised."""
        done = [one for one in self._copies if wait or one.done()]
        self._copies = [one for one in self._copies if one not in done]
        for one in done:
            one.result()
