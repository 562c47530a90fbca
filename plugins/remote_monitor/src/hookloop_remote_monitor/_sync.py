"""``hookloop remote-sync PATH``: send what runs that are over have left in their spool."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hookloop.errors import FileError, SettingError, listed
from hookloop.files import atomic_write
from hookloop_remote_monitor._event import PATH
from hookloop_remote_monitor._queue import Queue
from hookloop_remote_monitor._sender import Client, Sender

#: File of a spool: where its events go, as far as that can be no secret.
TARGET = "target.json"


def remember(folder: Path, origin: str, **settings: object) -> None:
    """Write down where events go, without users, paths, queries and headers.

    Args:
        folder: The spool.
        origin: Scheme, host and port.
        settings: ``root``, ``path`` and ``header``; of those that are not the plain ones only the
            names are kept, so that `main` can ask for them.
    """
    usual = {"root": origin, "path": PATH, "header": {}}
    secret = [name for name, value in settings.items() if value != usual[name]]
    atomic_write(folder / TARGET, json.dumps({"root": origin, "secret": secret}).encode())


def main(words: Sequence[str]) -> int:
    """Run the command.

    Args:
        words: Its arguments.

    Returns:
        The exit status: 0 if the spool is empty now and the server took every event, else 1.
    """
    asked = _parser().parse_args(words)
    folder = Path(asked.spool)
    client = _client(asked, folder / TARGET)
    queue = Queue(sys.maxsize, sys.maxsize, folder)
    before = len(queue)
    sender = Sender(queue, client, backoff=(1.0, 10.0))
    left = sender.close(asked.timeout)
    for problem in sender.news():
        print(f"hookloop remote-sync: {problem}", file=sys.stderr)
    gone, refused = before - left, sender.refused
    print(f"{gone - refused} events delivered to {client.origin}, {refused} refused, {left} left")
    return int(left + refused > 0)


def _parser() -> argparse.ArgumentParser:
    told = "Send what runs that are over have left in their spool, in order."
    parser = argparse.ArgumentParser(prog="hookloop remote-sync", description=told)
    parser.add_argument("spool", metavar="PATH", help="the folder, as in spool=PATH")
    parser.add_argument("--root", help="the server (default: that of the run, if it is no secret)")
    parser.add_argument("--path", help=f"what follows it in the address (default: {PATH})")
    told = "a header; repeatable"
    parser.add_argument("--header", action="append", metavar="'NAME: VALUE'", help=told)
    told = "how long to go on trying, in seconds (default: 60)"
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help=told)
    return parser


def _client(asked: argparse.Namespace, target: Path) -> Client:
    try:
        kept = json.loads(target.read_bytes())
    except OSError:
        message = f"{target.parent} is no spool of remote_monitor: it has no {target.name}."
        raise FileError(message, fix="name the folder that a run had as spool=") from None
    missing = [f"--{name}" for name in kept["secret"] if getattr(asked, name) is None]
    if missing:
        message = f"The events in {asked.spool} were sent with settings that are not kept on disk."
        raise SettingError(message, fix=f"give them again: {listed(missing)}")
    root = kept["root"] if asked.root is None else asked.root
    path = PATH if asked.path is None else asked.path
    pairs = (one.partition(":") for one in asked.header or ())
    return Client(root + path, {name.strip(): value.strip() for name, _, value in pairs}, 10.0)
