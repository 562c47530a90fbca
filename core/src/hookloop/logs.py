"""Logs: a dict whose values are read from the device only when somebody asks for them."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any

_PLAIN = frozenset({float, int, str, bool, type(None)})


def read(value: Any) -> Any:
    """Read a logged value as a user wants to see it.

    Args:
        value: Anything. A 0-d tensor or array, or a NumPy scalar, waits for its device.

    Returns:
        A float for 0-d tensors, 0-d arrays and NumPy scalars; anything else as given.
    """
    if type(value) in _PLAIN or getattr(value, "ndim", None) != 0:
        return value
    number = value.item()
    return float(number) if isinstance(number, int | float) else value


def detached(value: Any) -> Any:
    """Cut a logged value off from what may change it later.

    A tensor on the CPU is read at once, which is cheaper there than a copy; on an accelerator it
    is copied on the device, which does not wait. Anything that is no 0-d tensor stays as given.
    """
    if type(value) in _PLAIN or getattr(value, "ndim", None) != 0 or not hasattr(value, "detach"):
        return value
    return read(value) if value.is_cpu else value.detach().clone()


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


class Logs(dict[str, Any]):
    """The numbers of one hook call, shared by all callbacks of that call.

    To its readers it is a plain ``dict`` of floats: ``dict(logs)``, ``**logs``, ``json.dumps``,
    ``copy``, ``|``, ``==`` and pickle see what indexing sees. Underneath, a value stays on its
    device until it is looked at, and is then read once. It is true even when it is empty, so that
    ``logs = logs or {}`` in a callback loses nothing.
    """

    __slots__ = ("_read",)
    _read: dict[str, Any]

    def __bool__(self) -> bool:
        return True

    def raw(self, key: str, default: Any = None) -> Any:
        """Give a value without reading it: a tensor stays one, on its device, not waited for."""
        return super().get(key, default)

    def raw_items(self) -> ItemsView[str, Any]:
        """Give all pairs without reading any."""
        return super().items()

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if type(value) in _PLAIN:
            return value
        try:
            cache = self._read
        except AttributeError:
            cache = self._read = {}
        if key not in cache:
            cache[key] = _whole(read(value)) if key == "size" else read(value)
        return cache[key]

    def __setitem__(self, key: str, value: Any) -> None:
        value = detached(value)
        super().__setitem__(key, _whole(value) if key == "size" else value)
        if hasattr(self, "_read"):
            self._read.pop(key, None)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        if hasattr(self, "_read"):
            self._read.pop(key, None)

    # Defined so that dict(logs) and **logs take the slow path, through __getitem__.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  (it is what get means)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        return dict(self).values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        return dict(self).items()

    def pop(self, key: str, *default: Any) -> Any:
        if key not in self:
            return super().pop(key, *default)
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        if not len(self):
            raise KeyError("popitem(): the logs are empty")
        key = next(reversed(self))
        return key, self.pop(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        super().clear()
        self._read = {}

    def update(  # type: ignore[override]
        self, *others: Mapping[str, Any] | Iterable[tuple[str, Any]], **more: Any
    ) -> None:
        for other in (*others, more):
            pairs = other.raw_items() if isinstance(other, Logs) else dict(other).items()
            for key, value in pairs:
                self[key] = value

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, Logs) else other)

    def __ne__(self, other: object) -> bool:  # or dict's own would compare unread values
        return not self == other

    __hash__ = None

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return dict(self) | dict(other) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return dict(other) | dict(self) if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Logs:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle and both kinds of copy
        return (dict, (dict(self),))
