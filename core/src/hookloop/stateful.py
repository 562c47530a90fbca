"""What else has a state in a loop written by hand: schedulers, gradient scalers and the like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hookloop.errors import ArgumentError, listed
from hookloop.plain import made_plain, restored

if TYPE_CHECKING:
    from hookloop.loop import Loop


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

    def left_out(self, loop: Loop) -> list[str]:
        """Say what a saved state will lack without which the run cannot go on exactly."""
        return [*self._left_weights(loop), *self._left_schedulers(loop)]

    def _left_weights(self, loop: Loop) -> Iterator[str]:
        modules = [one for one in (loop.model, *self._objects) if hasattr(one, "parameters")]
        saved = {id(parameter) for one in modules for parameter in one.parameters()}
        groups = [group for one in loop.optimizers for group in one.param_groups]
        trained = [parameter for group in groups for parameter in group["params"]]
        left = sum(id(parameter) not in saved for parameter in trained)
        if left:
            yield (
                f"{left} of the {len(trained)} parameters that are trained are not saved: they are "
                "in no module that attach knows.\nfix: stateful=[the other model]"
            )

    def _left_schedulers(self, loop: Loop) -> Iterator[str]:
        """Find a scheduler by what it leaves in an optimizer; a callback may have it."""
        held = [value for one in loop.callbacks.values() for value in vars(one).values()]
        known = any(hasattr(one, "get_last_lr") for one in (*self._objects, *held))
        groups = [group for one in loop.optimizers for group in one.param_groups]
        if not known and any("initial_lr" in group for group in groups):
            yield (
                "A scheduler of the learning rate is not saved, and begins anew if the run goes on "
                "from a saved state.\nfix: stateful=scheduler"
            )

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
