"""Keeping secrets out of what is shown, raised, logged or saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "<secret>"
_NAMES = (
    r"(?:token|passw(?:or)?d|passphrase|secret|credentials?|authorization|cookie|"
    r"(?:api|access|secret|private|auth)[_-]?key)"
)
_NAME = re.compile(rf"(?:^|[_-]|\b){_NAMES}$", re.IGNORECASE)
#: User and password in a URL; then what stands behind a name that is one of the above.
_IN_URL = re.compile(r"(?<=://)[^/@\s'\",]+(?=@)")
_BEHIND_NAME = re.compile(
    rf"((?<![A-Za-z]){_NAMES}['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^,&'\"}})\]\n]+)", re.IGNORECASE
)


def is_secret(name: str, declared: Iterable[str] = ()) -> bool:
    """Tell by its name whether a setting is a secret, declared as one or not."""
    return name in declared or _NAME.search(name) is not None


def masked(text: str) -> str:
    """Replace in a text what looks like a password or a token."""
    return _BEHIND_NAME.sub(rf"\1{HIDDEN}", _IN_URL.sub(HIDDEN, text))


def discreet(factory: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the secrets among a callback's settings, before they are shown or saved.

    Args:
        factory: The callback, or its class; its ``secret_settings`` are secrets, and so is what is
            called so by its name.
        settings: Arguments of its constructor.
    """
    declared = getattr(factory, "secret_settings", ())
    return {
        name: HIDDEN if is_secret(name, declared) else value for name, value in settings.items()
    }


def without_secrets(factory: Any, settings: Mapping[str, Any], text: str) -> str:
    """Replace in the text of somebody's error the values of secrets that it may quote."""
    shown = discreet(factory, settings)
    for name, value in settings.items():
        if shown[name] is HIDDEN and str(value):
            text = text.replace(str(value), HIDDEN)
    return masked(text)
