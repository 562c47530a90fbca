"""Which hook API a plugin was written for, and whether this hookloop offers it."""

from __future__ import annotations

from typing import Any

from hookloop.errors import PluginImportError

#: Raised by one whenever a class that was written for the new hooks could not run with the old
#: ones. docs/compatibility.md says what that means.
HOOK_API = 1
#: The oldest one that is still offered.
OLDEST_HOOK_API = 1


def check_hook_api(found: Any, who: str, upgrade: str | None = None) -> None:
    """Refuse a callback that was written for hooks which this hookloop does not have.

    Args:
        found: A callback, its class, or a function that makes it. Its ``hook_api`` is a whole
            number; without one it is 1.
        who: What it is, to begin an error with.
        upgrade: The line that installs it anew, where there is one.

    Raises:
        PluginImportError: If it asks for another hook API, or for something that is none.
    """
    asked = getattr(found, "hook_api", 1)
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        message = f"{who} states hook_api={asked!r}, which is no whole number from 1."
        raise PluginImportError(message, fix=f"hook_api = {HOOK_API}, for this hookloop")
    if asked > HOOK_API:
        message = f"{who} needs hook API {asked}; this hookloop offers {HOOK_API}."
        fix = "pip install --upgrade hookloop, or install an older version of the plugin"
        raise PluginImportError(message, fix=fix)
    if asked < OLDEST_HOOK_API:
        message = f"{who} needs hook API {asked}; this hookloop offers no older than "
        fix = upgrade or "ask its authors for a newer version, or install an older hookloop"
        raise PluginImportError(f"{message}{OLDEST_HOOK_API}.", fix=fix)
