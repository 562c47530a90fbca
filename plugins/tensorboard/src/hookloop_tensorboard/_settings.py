"""What the settings mean, and which of them make no sense."""

from __future__ import annotations

from typing import Any

from hookloop.errors import SettingError


def check_number(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number, or too small.

    Raises:
        SettingError: With what would do.
    """
    if type(value) is not int or value < least:
        message = f"tensorboard: {name}={value!r} is no whole number of {least} or more."
        raise SettingError(message, fix=f"{name}=1")


def batches_between(update_freq: Any) -> int:
    """Tell after how many batches to write; 0 for epochs only.

    Raises:
        SettingError: If it is neither a word that is known nor a number.
    """
    if update_freq in ("epoch", "batch"):
        return int(update_freq == "batch")
    if type(update_freq) is not int or update_freq < 1:
        message = f"tensorboard: update_freq={update_freq!r} is not understood."
        raise SettingError(message, fix="'epoch', 'batch' or a number of batches")
    return update_freq


def profiled(wanted: Any) -> tuple[int, int] | None:
    """Read ``profile_batch``: a number, a pair, or text of these; None for none.

    Raises:
        SettingError: If it is nothing of that, or counts from 0.
    """
    parts = wanted.split(",") if isinstance(wanted, str) else wanted
    parts = list(parts) if isinstance(parts, list | tuple) else [parts]
    try:
        numbers = [part if type(part) is int else int(str(part)) for part in parts]
    except ValueError:
        numbers = []
    if numbers == [0]:
        return None
    if len(numbers) not in (1, 2) or not 1 <= numbers[0] <= numbers[-1]:
        message = f"tensorboard: profile_batch={wanted!r} is no range of batches."
        raise SettingError(message, fix="0, 10, (10, 20) or '10,20', counted from 1")
    return numbers[0], numbers[-1]
