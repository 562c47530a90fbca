"""What still works and is going to be removed: all of it is named here, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from hookloop.errors import warn


@dataclass(frozen=True)
class Deprecation:
    """One old form.

    Attributes:
        what: The form, as a user writes it.
        instead: What to write in its place.
        since: First minor release that warns of it, as in ``"0.2"``.
        removal: Minor release that no longer has it, two later at the earliest.
    """

    what: str
    instead: str
    since: str
    removal: str


#: By the key with which the code that still accepts the old form calls `warn_of`.
DEPRECATIONS: dict[str, Deprecation] = {}


def warn_of(key: str) -> None:
    """Say, at the user's own line, that an old form is used, and until when it works."""
    old = DEPRECATIONS[key]
    text = f"{old.what} is deprecated since hookloop {old.since}; {old.removal} removes it."
    warn(f"{text}\nfix: {old.instead}", DeprecationWarning)
