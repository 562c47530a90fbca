"""Attributes of somebody else's objects that are replaced for a while, and put back."""

from __future__ import annotations

from typing import Any

_NOTHING = object()


class StandIns:
    """Remembers what stood where something stands in now.

    Works on the instance alone, past Keras's own ``__setattr__``, which looks for layers in what
    it is given. Whoever came last has to leave first.
    """

    def __init__(self) -> None:
        self._put: list[tuple[Any, str, Any, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Have a value stand in for an attribute."""
        before = vars(owner).get(name, _NOTHING)
        vars(owner)[name] = value
        self._put.append((owner, name, value, before))

    def back(self) -> None:
        """Put everything back, but what somebody else has replaced since."""
        while self._put:
            owner, name, value, before = self._put.pop()
            if vars(owner).get(name) is not value:
                continue
            if before is _NOTHING:
                del vars(owner)[name]
            else:
                vars(owner)[name] = before
