"""``hookloop remote-sync PATH``: send what runs that are over have left in their spool."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hookloop.errors import SettingError, listed
from hookloop.files import Lock
from hookloop_remote_monitor import _target
from hookloop_remote_monitor._client import Client, Connection
from hookloop_remote_monitor._pace import Pace
from hookloop_remote_monitor._sender import Sender
from hookloop_remote_monitor._spool import Spool

#: No bound but that of the disk: nothing is added here.
LIMIT = sys.maxsize


def main(words: Sequence[str]) -> int:
    """Run the command.

    Args:
        words: Its arguments.

    Returns:
        The exit status: 0 if the spool is empty now and the server took every event, else 1.
    """
    asked = _parser().parse_args(words)
    folder = Path(asked.spool)
    known = _target.load(folder)
    client = _client(asked, known)
    lock = Lock(folder)
    lock.acquire()
    try:
        spool = Spool(folder, LIMIT, 0)
        sender = Sender(spool, client, Pace(1.0, 10.0))
        before = len(spool)
        sender.start()
        try:
            left = sender.close(asked.timeout)
        finally:
            spool.close()
    finally:
        lock.release()
    for problem in sender.news():
        print(f"hookloop remote-sync: {problem}", file=sys.stderr)
    if spool.lost:
        print(f"hookloop remote-sync: {spool.lost} damaged lines were left out", file=sys.stderr)
    gone = before - left - sender.refused - spool.lost
    print(f"{gone} events delivered to {client.origin}, {sender.refused} refused, {left} left")
    return int(left > 0 or sender.refused > 0)


def _parser() -> argparse.ArgumentParser:
    told = "Send what runs that are over have left in their spool, in order."
    parser = argparse.ArgumentParser(prog="hookloop remote-sync", description=told)
    parser.add_argument("spool", metavar="PATH", help="the folder, as in spool=PATH")
    parser.add_argument("--root", help="the server (default: that of the run, if it is no secret)")
    parser.add_argument("--path", help=f"what follows it in the address (default: {_target.PATH})")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header; ${NAME} in its value is what the environment holds; repeatable",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to go on trying (default: 60)",
    )
    parser.add_argument("--ca", metavar="FILE", help="the certificates to trust")
    return parser


def _client(asked: argparse.Namespace, known: _target.Target) -> Client:
    headers = {}
    for one in asked.header:
        name, colon, value = one.partition(":")
        if not colon:
            message = "remote-sync: a --header has no colon."  # what it has may be a secret
            raise SettingError(message, fix="--header 'Authorization: Bearer ${TOKEN}'")
        headers[name.strip()] = value.strip()
    given = {"--root"} if asked.root is not None else set()
    given |= {"--path"} if asked.path is not None else set()
    given |= {f"--header {name}".lower() for name in headers}
    missing = [option for option in known.asks if option.lower() not in given]
    if missing:
        message = f"The events in {asked.spool} were sent with settings that are not kept on disk."
        raise SettingError(message, fix=f"give them again: {listed(missing)}")
    url = (asked.root or known.root) + (_target.PATH if asked.path is None else asked.path)
    return Client(url, headers, Connection(verify=asked.ca or True))
