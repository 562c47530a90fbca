"""What else has a state in a loop written by hand: schedulers, gradient scalers and the like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hookloop.errors import ArgumentError, listed
from hookloop.plain import made_plain, restored


class Stateful:
    """The objects of ``stateful=``.

    Args:
        objects: Each has ``state_dict`` and ``load_state_dict``.

    Raises:
        ArgumentError: If one has not.
    """

    def __init__(self, objects: Sequence[Any]) -> None:
        for one in objects:
            if not (hasattr(one, "state_dict") and hasattr(one, "load_state_dict")):
                message = f"stateful holds a {type(one).__name__}, which has no state to save."
                raise ArgumentError(message, fix="pass objects with state_dict, load_state_dict")
        self._objects = objects
        self._settings = [_settings(one) for one in self.schedulers()]

    def schedulers(self) -> list[Any]:
        """Give the schedulers of torch among them."""
        return [one for one in self._objects if hasattr(one, "get_last_lr")]

    def config(self) -> dict[str, Any]:
        """Say in words which they are, and how the schedulers were set when the run began."""
        return {"stateful": self._classes(), "schedulers": dict(enumerate(self._settings))}

    def _classes(self) -> list[str]:
        return [type(one).__name__ for one in self._objects]

    def state(self) -> list[Any]:
        return [made_plain(one.state_dict()) for one in self._objects]

    def load(self, saved: Sequence[Any]) -> None:
        for one, held in zip(self._objects, saved, strict=True):
            one.load_state_dict(restored(held))

    def differences(self, saved: Sequence[Any], then: Any) -> Iterator[tuple[str, str]]:
        """Find in what the objects of a state are others.

        Args:
            saved: What `state` gave.
            then: Their classes; None where they are not known.
        """
        fix = "pass the same ones, in the same order"
        if len(saved) != len(self._objects):
            what = (
                f"The state has {len(saved)} objects of stateful=, this run {len(self._objects)}."
            )
            yield what, fix
        elif isinstance(then, list) and then != self._classes():
            was, become = listed(map(str, then)), listed(self._classes())
            yield f"The objects of stateful= were {was}; now {become}.", fix


def _settings(scheduler: Any) -> dict[str, Any]:
    """Find the numbers with which a scheduler begins; nothing that could be a tensor or large."""
    held = scheduler.state_dict()
    return {key: value for key, value in held.items() if isinstance(value, int | float | str)}
