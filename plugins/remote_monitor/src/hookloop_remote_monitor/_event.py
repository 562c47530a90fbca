"""What is sent: the bytes of one event, as Keras writes them. Knows nothing of a loop."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

#: Where Keras posts.
PATH = "/publish/epoch/end/"


@dataclass(frozen=True)
class Event:
    """One request, but for its address and its headers.

    Attributes:
        key: What tells it from every other event; the same whenever it is sent again.
        kind: Content type of the body.
        body: ASCII.
    """

    key: str
    kind: str
    body: str


def event(key: str, send: Mapping[str, Any], field: str, *, as_json: bool) -> Event:
    """Make the event of what was measured.

    Args:
        key: Its `Event.key`.
        send: What was measured, by name.
        field: Name of the form's field that holds the JSON.
        as_json: Whether the body is the JSON itself instead of a form.
    """
    text = json.dumps(plain(send), allow_nan=False)
    if as_json:
        return Event(key, "application/json", text)
    return Event(key, "application/x-www-form-urlencoded", urlencode({field: text}))


def plain(value: Any) -> Any:
    """Turn a value into what JSON can express.

    Args:
        value: Tensors, arrays and other iterables become lists, 0-d ones numbers, NaN and infinity
            None; what JSON does not know becomes text.
    """
    if hasattr(value, "tolist"):
        whole = getattr(value, "ndim", None) == 0
        value = value.tolist()
        value = float(value) if whole and isinstance(value, int) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return str(value)
