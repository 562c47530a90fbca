"""A real HTTP server on loopback, which misbehaves as it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hookloop import CallbackList


@dataclass(frozen=True)
class Request:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: str
    connection: int

    @property
    def key(self) -> str:
        return self.headers["Idempotency-Key"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    timeout = 5
    answered = False

    def do_POST(self) -> None:
        self.answered = False
        length = int(self.headers["Content-Length"])
        body, port = self.rfile.read(length), self.client_address[1]
        if len(body) < length:  # the client was killed while it sent
            self.close_connection = True
            return
        request = Request(self.path, dict(self.headers), body.decode(), port)
        self.server.owner.arrived(request, self)

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.answered = True
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Http(ThreadingHTTPServer):
    owner: Server
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away is none of the server's business."""


class Server:
    """Counts what arrives and answers it with ``behave``.

    Attributes:
        requests: What arrived, in order.
        accepted: Those of them that were answered with 200 by the default behaviour.
        behave: Answers one request; returns None to have it accepted.
        release: Set when the test is over, for behaviours that hang.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.accepted: list[Request] = []
        self.behave: Callable[[Handler], bool | None] = lambda handler: None
        self.release = threading.Event()
        self.certificate: Path | None = None
        self._changed = threading.Condition()
        self._http: _Http | None = None
        self.port = 0
        self.poured = 0

    def start(self) -> None:
        self._http = _Http(("127.0.0.1", self.port), Handler)
        self._http.owner = self
        self.port = self._http.server_address[1]
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def arrived(self, request: Request, handler: Handler) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if self.behave(handler):
            handler.close_connection = not handler.answered
            return
        with self._changed:
            self.accepted.append(request)
            self._changed.notify_all()
        handler.answer()

    def wait(self, found: Callable[[], bool]) -> None:
        """Wait until something has arrived."""
        with self._changed:
            assert self._changed.wait_for(found, 5), (len(self.requests), len(self.accepted))

    def once(self, act: Callable[[Handler], None], times: int = 1) -> None:
        """Misbehave so many times, then accept."""
        left = iter(range(times))

        def behave(handler: Handler) -> bool:
            if next(left, None) is None:
                return False
            act(handler)
            return True

        self.behave = behave


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that accepts everything, until told otherwise."""
    one = Server()
    one.start()
    yield one
    one.release.set()
    one.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that lets connections queue, and never takes one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address at which every connection is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def run() -> Callable[..., CallbackList]:
    """Start a run with one callback; the test drives its hooks."""

    def start(callback: Any, *others: Any) -> CallbackList:
        callbacks = CallbackList([callback, *others], model=None)
        callbacks.on_train_begin()
        return callbacks

    return start
