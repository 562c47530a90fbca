"""Callbacks from outside of a script: its command line, a TOML file, and the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hookloop.discovery import normalized
from hookloop.errors import HookloopError, SelectionError, listed
from hookloop.selection import as_items, load, reference_of, shown

if TYPE_CHECKING:
    import argparse

ADD, REMOVE = "HOOKLOOP_CALLBACKS", "HOOKLOOP_DISABLE"
_depth: ContextVar[int] = ContextVar("hookloop_depth", default=0)
#: Loops of the runs that are under way and sure to end, in whatever thread.
under_way: list[Any] = []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a script the options ``--callback``, ``--no-callback`` and ``--callbacks-from``."""
    group = parser.add_argument_group("callbacks")
    group.add_argument(
        "--callback",
        action="append",
        default=[],
        metavar="NAME[:k=v,...]",
        help="use this callback; one of the same name is replaced as a whole, its settings too; "
        "+NAME adds a second one",
    )
    group.add_argument(
        "--no-callback", action="append", default=[], metavar="NAME", help="leave this callback out"
    )
    group.add_argument(
        "--callbacks-from",
        metavar="FILE.toml",
        help="use the callbacks of a file of [[callbacks]] tables, each with name and settings",
    )


def from_arguments(args: argparse.Namespace, default: Any = ()) -> list[Any]:
    """Put together what was asked for: the defaults, then the file, then ``--callback``.

    Args:
        args: What a parser with `add_arguments` gave.
        default: The script's own callbacks.

    Returns:
        Items for ``callbacks=``, not yet loaded.

    Raises:
        SelectionError: If the file cannot be read, or an option names nothing.
    """
    items = as_items(default)
    if args.callbacks_from:
        items = merge(items, _from_toml(args.callbacks_from))
    return without(merge(items, args.callback), args.no_callback, "--no-callback")


def with_environment(items: Any) -> tuple[list[Any], str | None]:
    """Add and remove what ``HOOKLOOP_CALLBACKS`` and ``HOOKLOOP_DISABLE`` say.

    Only the outermost run does so: an evaluation inside of a callback is not meant.

    Returns:
        The items, and the line that tells the user, or None where nothing changed.
    """
    chosen = as_items(items)
    added, removed = (
        [one.strip() for one in os.environ.get(name, "").split(";") if one.strip()]
        for name in (ADD, REMOVE)
    )
    if _depth.get() or not (added or removed):
        return chosen, None
    before = {_name(item) for item in chosen}
    chosen = merge(chosen, [_checked(item) for item in added])
    there = {_name(item) for item in chosen}
    absent = [name for name in removed if normalized(name) not in there]
    removed = [name for name in removed if name not in absent]
    new = [shown(item) for item in added if _name(item) not in before]
    replaced = [shown(item) for item in added if _name(item) in before]
    parts = [f"{ADD} adds {listed(new)}"] if new else []
    parts += [f"{ADD} replaces the run's own by {listed(replaced)}"] if replaced else []
    parts += [f"{REMOVE} removes {listed(removed)}"] if removed else []
    # Of a script that fits and then evaluates, one run may well lack what the other has.
    parts += [f"{REMOVE} names {listed(absent)}, which this run does not have"] if absent else []
    return without(chosen, removed, REMOVE), "; ".join(parts)


def _checked(item: str) -> str:
    """Say of what cannot be loaded that it is the environment which asks for it."""
    try:
        load(item.removeprefix("+"))
    except HookloopError as error:
        message = f"The environment variable {ADD} asks for {item!r}. {error}"
        raise SelectionError(message) from error
    return item


@contextmanager
def outermost(*loops: Any) -> Iterator[None]:
    """Mark a run as under way, so that runs inside of it are known to be nested.

    Args:
        *loops: Its loop; no other run takes that one's callbacks meanwhile.
    """
    token = _depth.set(_depth.get() + 1)
    under_way.extend(loops)
    try:
        yield
    finally:
        for loop in loops:  # not the last ones: there are other threads
            under_way.remove(loop)
        _depth.reset(token)


def merge(items: Sequence[Any], later: Sequence[Any]) -> list[Any]:
    """Let later items replace earlier ones of the same name; ``+name`` stands beside it."""
    merged = list(items)
    for item in later:
        text = item[0] if isinstance(item, tuple) else item
        second = isinstance(text, str) and text.startswith("+")
        if second:
            item = item[1:] if isinstance(item, str) else (text[1:], item[1])
        there = [_name(one) for one in merged]
        if second or _name(item) not in there:
            merged.append(item)
        else:
            merged[there.index(_name(item))] = item
    return merged


def without(items: Sequence[Any], names: Sequence[str], option: str) -> list[Any]:
    """Leave out the items of some names.

    Raises:
        SelectionError: If there is none of that name.
    """
    kept = list(items)
    for name in names:
        left = [item for item in kept if _name(item) != normalized(name)]
        if len(left) == len(kept):
            held = listed(str(reference_of(item)) for item in kept)
            message = f"{option} {name}: there is no such callback to leave out; there are: {held}."
            raise SelectionError(message, fix="name one of these")
        kept = left
    return kept


def _name(item: Any) -> str:
    return normalized(str(reference_of(item)))


def _from_toml(path: str) -> list[Any]:
    import tomllib

    fix = 'write [[callbacks]] tables: name = "early_stopping", and its settings'
    try:
        with open(path, "rb") as file:
            whole = tomllib.load(file)
    except FileNotFoundError:
        raise SelectionError(f"There is no file {path}.", fix="correct the path") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SelectionError(f"{path} cannot be read: {error}.", fix=fix) from None
    tables = whole.get("callbacks", [] if not whole else None)
    if tables is None:
        raise SelectionError(
            f"{path} has no [[callbacks]] table; it has: {listed(whole)}.", fix=fix
        )
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SelectionError(f"{path}: `callbacks` is no list of tables.", fix=fix)
    for table in tables:
        if not isinstance(table.get("name"), str):
            raise SelectionError(f"{path}: a table of `callbacks` has no name.", fix=fix)
    return [
        (table["name"], {key: value for key, value in table.items() if key != "name"})
        for table in tables
    ]
