"""The only reader of entry points: which callbacks are installed, and loading one of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from hookloop.compatibility import check_hook_api
from hookloop.errors import (
    AmbiguousCallbackError,
    PluginImportError,
    SelectionError,
    UnknownCallbackError,
    did_you_mean,
    listed,
)

GROUP = "hookloop.callbacks"
#: Commands that plugins add to ``hookloop``: functions of the words after the command's name.
COMMANDS = "hookloop.commands"
#: Extras of core that are not callbacks.
_NOT_CALLBACKS = ("testing", "demo", "plot", "keras", "all")
_HEADER = re.compile(r"^(Name|Version):[ \t]*(.*\S)", re.MULTILINE)


@dataclass(frozen=True)
class Plugin:
    """One entry point: a callback or command that is installed, and who owns it.

    Attributes:
        name: What a user types.
        distribution: Name of the distribution that provides it.
        version: Version of that distribution, empty where its metadata are damaged.
        object: Where it is, as ``package.module:Class``.
    """

    name: str
    distribution: str
    version: str
    object: str

    def load(self, kind: str = "callback") -> Callable[..., Any]:
        """Import the plugin.

        Args:
            kind: What it is, for the error.

        Returns:
            The class, or whatever callable makes the callback.

        Raises:
            PluginImportError: If the import fails, naming the cause, or if the plugin was written
                for hooks that this hookloop does not have.
        """
        who = f"The {kind} {self.name!r} of {self.distribution} {self.version} ({self.object})"
        return import_object(self.object, who, f"pip install --upgrade {self.distribution}")


def normalized(name: str) -> str:
    """Reduce a name to what is compared: lower case, without ``-``, ``_`` and ``.``."""
    return re.sub(r"[-_.]", "", name).lower()


def canonical(distribution: str) -> str:
    """Reduce the name of a distribution to what pip compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def installed(group: str = GROUP) -> dict[str, tuple[Plugin, ...]]:
    """Tell what is installed, without importing any of it.

    Args:
        group: `GROUP` for callbacks, `COMMANDS` for commands.

    Returns:
        For each normalized name, the plugins of that name, one a distribution.
    """
    return scan()[group]


@cache
def scan() -> dict[str, dict[str, tuple[Plugin, ...]]]:
    """Look through all distributions: once a process, and for both groups at once."""
    from importlib import metadata  # 20 ms, and not needed by whoever passes instances

    found: dict[str, dict[str, dict[str, Plugin]]] = {GROUP: {}, COMMANDS: {}}
    for distribution in metadata.distributions():
        try:
            plugins = list(_plugins(distribution))
        except Exception:  # noqa: S112  # damaged beyond reading: matters to nobody else
            continue
        for group, plugin in plugins:
            owners = found[group].setdefault(normalized(plugin.name), {})
            owners.setdefault(canonical(plugin.distribution), plugin)
    return {
        group: {
            name: tuple(owners[k] for k in sorted(owners)) for name, owners in sorted(of.items())
        }
        for group, of in found.items()
    }


def _plugins(distribution: Any) -> Iterator[tuple[str, Plugin]]:
    """Find the callbacks and commands of a distribution, each with its group."""
    text = distribution.read_text("entry_points.txt")
    if not text or (GROUP not in text and COMMANDS not in text):
        return
    name, version = _identity(distribution)
    for point in distribution.entry_points:
        if point.group in (GROUP, COMMANDS):
            where = point.value.partition("[")[0].replace(" ", "")
            yield point.group, Plugin(point.name, name, version, where)


def _identity(distribution: Any) -> tuple[str, str]:
    """Tell name and version; of an installation without METADATA the folder's name, and none."""
    try:  # only the head: to have a whole README parsed takes longer than all the rest
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        found = dict(_HEADER.findall(text.partition("\n\n")[0]))
    except Exception:  # what a file that cannot be read leads to differs between versions of Python
        found = {}
    if "Name" in found:
        return found["Name"], found.get("Version", "")
    folder = getattr(distribution, "_path", None)
    return getattr(folder, "name", "unknown").partition("-")[0], ""


def readme(distribution: str) -> str:
    """Give the long description of an installed distribution; empty where there is none."""
    from importlib import metadata

    try:
        found = metadata.distribution(distribution)
        about: Any = found.metadata  # an email.Message, by contract with less
        return _edited_readme(found) or str(about.get("Description") or "")
    except Exception:  # what damaged metadata lead to differs between versions of Python
        return ""


def _edited_readme(distribution: Any) -> str:
    """Give the README of an editable installation as it is now; its metadata hold an older one."""
    import json
    from pathlib import Path
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    about = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not about.get("dir_info", {}).get("editable"):
        return ""
    page = Path(url2pathname(urlparse(about["url"]).path)) / "README.md"
    return page.read_text(encoding="utf-8") if page.is_file() else ""


def version(distribution: str) -> str | None:
    """Give the version of an installed distribution; None where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except Exception:  # missing, or damaged in one of many ways
        return None


def needs(distribution: str) -> list[str]:
    """Give the requirements of an installed distribution, as they are written in its metadata."""
    from importlib import metadata

    try:
        return metadata.requires(distribution) or []
    except Exception:
        return []


def available() -> dict[str, list[Plugin]]:
    """Map each installed callback's name to its owners, without importing any.

    Returns:
        Name as its first owner writes it, to one `Plugin` a distribution. More than one means
        that the name alone is ambiguous.
    """
    return {owners[0].name: list(owners) for owners in installed().values()}


def find(name: str, distribution: str | None = None) -> Plugin:
    """Find the one plugin of a name.

    Args:
        name: In any spelling: ``early_stopping``, ``early-stopping`` and ``EarlyStopping`` are one.
        distribution: Its owner, where several provide the name.

    Raises:
        UnknownCallbackError: If nobody provides it, with what is near, what is installed and, for
            one of hookloop's own, the line that installs it.
        AmbiguousCallbackError: If several do, and no owner is named.
    """
    owners = installed().get(normalized(name), ())
    if distribution is not None:
        owners = tuple(p for p in owners if canonical(p.distribution) == canonical(distribution))
    if not owners:
        raise _unknown(name, distribution)
    if len(owners) > 1:
        who = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in owners)
        fix = " or ".join(f"{plugin.distribution}/{plugin.name}" for plugin in owners)
        raise AmbiguousCallbackError(f"The callback {name!r} is provided by {who}.", fix=fix)
    return owners[0]


def _unknown(name: str, distribution: str | None) -> UnknownCallbackError:
    names = [plugins[0].name for plugins in installed().values()]
    of = f" of {distribution}" if distribution else ""
    elsewhere = installed().get(normalized(name), ())
    if elsewhere:
        who = listed(plugin.distribution for plugin in elsewhere)
        message = f"No callback {name!r}{of} is installed; {who} provides one."
        return UnknownCallbackError(message, fix=f"{elsewhere[0].distribution}/{name}")
    for own in ours():
        if normalized(own) == normalized(name):
            message = f"The callback {name!r} is not installed; it is one of hookloop's own."
            return UnknownCallbackError(
                message, fix=f"pip install hookloop-{own.replace('_', '-')}"
            )
    message = (
        f"No callback {name!r}{of} is installed.{did_you_mean(name, {*names, *ours()})} "
        f"Installed: {listed(names)}."
    )
    fix = "correct the name, or pip install the distribution that provides it (see: hookloop list)"
    module, _, attribute = name.rpartition(".")
    if module and attribute[:1].isupper():
        fix = f'write "{module}:{attribute}" for the class {attribute} of the module {module}'
    return UnknownCallbackError(message, fix=fix)


def ours() -> list[str]:
    """Names of hookloop's own callbacks: the extras of core, from its metadata."""
    from importlib import metadata

    try:
        extras = metadata.metadata("hookloop").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    return [e.replace("-", "_") for e in extras if e not in _NOT_CALLBACKS and e[:3] != "in-"]


def plugin_of(cls: type) -> Plugin | None:
    """Find the installed plugin whose object a class is, importing nothing."""
    for owners in installed().values():
        for plugin in owners:
            module, _, attribute = plugin.object.partition(":")
            if getattr(sys.modules.get(module), attribute, None) is cls:
                return plugin
    return None


def import_object(path: str, who: str, upgrade: str | None = None) -> Callable[..., Any]:
    """Import ``package.module:Class``.

    Args:
        path: Module and object, with a colon between them.
        who: What it is, to begin an error with.
        upgrade: The line that installs it anew, where there is one.

    Raises:
        PluginImportError: If the module cannot be imported or lacks the object, or if the object
            was written for another hook API.
        SelectionError: If the object makes no callbacks.
    """
    import random
    from importlib import import_module

    module_name, _, attributes = path.partition(":")
    drawn = random.getstate()  # rich, for one, draws a number while it is imported
    try:
        found: Any = import_module(module_name)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:
        raise _import_error(who, upgrade, error, module_name) from error
    finally:
        random.setstate(drawn)
    if not callable(found):
        message = f"{who} is a {type(found).__name__}, which cannot make a callback."
        raise SelectionError(message, fix="name a class, or a function that returns a callback")
    check_hook_api(found, who, upgrade)
    return found  # type: ignore[no-any-return]


def _import_error(
    who: str, upgrade: str | None, error: BaseException, module: str
) -> PluginImportError:
    message = f"{who} cannot be imported: {type(error).__name__}: {error}"
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    missing = missing and missing.partition(".")[0]
    if missing and upgrade and missing != module.partition(".")[0]:
        fix = f"pip install {missing} (the missing module), or {upgrade}"
    elif missing and not upgrade:
        fix = f"correct the name, or pip install what provides the module {missing!r}"
    else:
        fix = upgrade or "mend the module, or correct the name"
    return PluginImportError(message, fix=fix)
