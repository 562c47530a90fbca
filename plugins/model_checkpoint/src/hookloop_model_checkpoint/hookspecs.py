"""The hook that model_checkpoint brings. Other plugins implement it with ``optionalhook=True``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookloop import hookspec

if TYPE_CHECKING:
    from hookloop import Logs, Loop


@hookspec
def on_checkpoint_saved(loop: Loop, path: str, logs: Logs) -> None:
    """A checkpoint is on disk, whole and durable.

    When: with ``async_save=False`` at the checkpoint hook that saved it; else at the next hook of
    the callback that saved it, its ``on_train_end`` at the latest. On the training thread.

    How often: once a file that was written; gradient accumulation does not matter here.

    Args:
        loop: The running loop; it may be further on than the file.
        path: The file.
        logs: Those of the batch or epoch that was saved.

    Raises: An exception here is one of the hook from which it was fired.
    """
