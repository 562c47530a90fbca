"""What is refused: settings that make no sense, and states that cannot be used."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hookloop.errors import CapabilityError, SettingError, StateError, without_fix
from hookloop.saving import refuse_unless_policy, refuse_unless_positive


def folder(backup_dir: str | os.PathLike[str]) -> Path:
    """Give the folder as a path.

    Raises:
        SettingError: If the name is empty, or none.
    """
    if not isinstance(backup_dir, str | os.PathLike) or not os.fspath(backup_dir).strip():
        message = f"backup_and_restore: backup_dir={backup_dir!r} is no name of a folder."
        raise SettingError(message, fix="backup_dir='runs/backup', for example")
    return Path(backup_dir)


def on_signals(save_on_signals: bool, save_before_preemption: bool | None) -> bool:
    """Tell whether signals save: under the newer or the older name of the setting."""
    if save_before_preemption is None:
        return save_on_signals
    if save_before_preemption and not save_on_signals:
        message = "backup_and_restore: save_before_preemption=True and save_on_signals=False."
        raise SettingError(message, fix="leave the first, which is the older name, out")
    return save_before_preemption


def usr1() -> tuple[int, ...]:
    """Give the number of SIGUSR1.

    Raises:
        SettingError: If this system has no such signal.
    """
    if not hasattr(signal, "SIGUSR1"):
        message = "backup_and_restore: save_on_sigusr1=True, and this system has no SIGUSR1."
        raise SettingError(message, fix="leave it out, and save more often: save_freq='2 min'")
    return (signal.SIGUSR1,)


def not_heeded(who: str, host: str) -> CapabilityError:
    """Make the error for a run that would die of the signal that it is to save at."""
    message = f"{who}: save_on_sigusr1=True, and this run in {host} heeds no signals."
    fix = "run it by fit or attach in the main thread, or leave save_on_sigusr1 out"
    return CapabilityError(message, fix=fix)


def check_settings(keep: Any, on_save_error: Any, *, double: bool) -> None:
    """Refuse settings that make no sense, alone or together."""
    fix = "keep=2 or more; with 1 there is none to fall back to"
    refuse_unless_positive("backup_and_restore", "keep", keep, fix)
    if double and keep < 2:
        message = f"backup_and_restore: double_checkpoint=True, but keep={keep}."
        raise SettingError(message, fix="keep=2 or more, or leave double_checkpoint out")
    refuse_unless_policy("backup_and_restore", on_save_error)


def nothing_intact(who: str, where: Path, damaged: Mapping[Path, str]) -> StateError:
    """Make the error for a folder of which every state is damaged."""
    reasons = "".join(f"\n  {reason}" for reason in damaged.values())
    message = f"{who}: no state in {where} is intact, so the run cannot go on:{reasons}"
    return StateError(message, fix=f"put an intact one there; to begin afresh, move {where} away")


def of_another_run(who: str, path: Path | None, where: Path, error: StateError) -> StateError:
    """Make the error for a state that does not fit the run."""
    fix = f"{error.fix}; to begin the run afresh, move {where} away, or pass another backup_dir="
    return StateError(f"{who}: this run cannot go on from {path}. {without_fix(error)}", fix=fix)
