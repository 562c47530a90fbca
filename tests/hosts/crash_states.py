"""What a power cut may leave on a disk: every state that the calls made so far allow.

A model of a file system that promises no more than POSIX does. What is written to a file is there
for certain only after an fsync of the file; until then it may be missing, zeros, half or whole.
That a name stands for a file, no longer does, or stands for another, is so for certain only after
an fsync of the folder; until then any of these changes may be on the disk, and any other not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from system_calls import Call

#: A file as its bytes, a folder as a sorted tuple of names, each with what it stands for.
Tree = Any


@dataclass
class Node:
    """A file or a folder, by whatever names.

    Attributes:
        content: Of a file: what is in it now.
        durable: Of a file: what is in it for certain; None if that is nothing yet.
        names: Of a folder: what names stand for, for certain.
        pending: Of a folder: changes since it was synced, each a few names and what they become.
    """

    is_folder: bool = False
    content: bytes = b""
    durable: bytes | None = None
    names: dict[str, Node] = field(default_factory=dict)
    pending: list[dict[str, Node | None]] = field(default_factory=list)

    def now(self) -> dict[str, Node]:
        return changed(self.names, self.pending)


def changed(
    names: dict[str, Node], changes: list[dict[str, Node | None]] | tuple[Any, ...]
) -> dict[str, Node]:
    """What names stand for after changes."""
    result: dict[str, Node | None] = dict(names)
    for change in changes:
        result |= change
    return {name: node for name, node in result.items() if node is not None}


class Disk:
    """Replays calls.

    Args:
        root: The folder that is there, durably, when they begin.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, Node(is_folder=True)

    def find(self, path: Path) -> Node:
        node = self.top
        for part in path.relative_to(self.root).parts:
            node = node.now()[part]
        return node

    def replay(self, call: Call) -> None:
        """Change what is there as a call did."""
        if call.name == "fsync":
            node = self.find(call.path)
            if node.is_folder:
                node.names, node.pending = node.now(), []
            else:
                node.durable = node.content
        elif call.name in ("write", "shorten"):
            self.find(call.path).content = call.content
        else:
            self.find(call.path.parent).pending.append(self._names(call))

    def _names(self, call: Call) -> dict[str, Node | None]:
        name = call.path.name
        if call.target is not None:
            assert call.target.parent == call.path.parent
            return {name: None, call.target.name: self.find(call.path)}
        if call.name in ("open", "mkdir"):
            return {name: Node(is_folder=call.name == "mkdir")}
        assert call.name in ("unlink", "rmdir", "remove")
        return {name: None}

    def states(self) -> Iterator[Tree]:
        """Give all that may be on the disk now, the worst first; the same may come again."""
        return possible(self.top)


def possible(node: Node) -> Iterator[Tree]:
    """Give all that may be there of a file or folder."""
    if not node.is_folder:
        yield from contents(node)
        return
    for chosen in product((False, True), repeat=len(node.pending)):
        changes = [change for change, on_disk in zip(node.pending, chosen, strict=True) if on_disk]
        names = sorted(changed(node.names, changes).items())
        for below in product(*(list(dict.fromkeys(possible(one))) for _, one in names)):
            yield tuple(zip((name for name, _ in names), below, strict=True))


def contents(node: Node) -> list[bytes]:
    """Give all that may be in a file, the worst first."""
    if node.durable == node.content:
        return [node.content]
    size = len(node.content)
    torn = [b"", bytes(size), node.content[: size // 2], node.content]
    return list(dict.fromkeys([*torn, *([] if node.durable is None else [node.durable])]))


def put(tree: Tree, folder: Path) -> None:
    """Write what may be on a disk into a folder."""
    for name, what in tree:
        if isinstance(what, bytes):
            (folder / name).write_bytes(what)
        else:
            (folder / name).mkdir()
            put(what, folder / name)


def seen(tree: Tree) -> Tree:
    """What is in sight: all but the names that only a sweep looks for."""
    return tuple(
        (name, what if isinstance(what, bytes) else seen(what))
        for name, what in tree
        if not name.endswith(".tmp")
    )
