"""Posting events to one address, so that no secret of it is ever shown."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests

from hookloop.errors import SettingError
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._pace import Answer, judged

Headers = Mapping[str, str | Callable[[], str]]

#: The longest body of an answer that is worth reading for the sake of the connection, in bytes.
SHORT = 1024


@dataclass(frozen=True)
class Connection:
    """How to reach the server.

    Attributes:
        timeout: Seconds to connect, and seconds between two bytes of the answer.
        verify: Whether to check certificates, or a file of those to trust.
        trust_env: Whether proxies, certificates and .netrc of the environment count.
    """

    timeout: tuple[float, float] = (3.05, 10.0)
    verify: bool | str = True
    trust_env: bool = True


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know of none: requests reads the whole body of a redirection that it knows."""


class Client(logging.Filter):
    """Posts events, from one thread.

    Args:
        url: Where to, with ``${NAME}`` for what the environment holds.
        headers: Their values are text, with ``${NAME}`` as above, or functions that give it, which
            are called for every event.
        connection: How.

    Attributes:
        origin: Scheme, host and port: all of the address that may be shown.
        exposed: Whether credentials travel unencrypted to another machine.

    Raises:
        SettingError: If the address or a header cannot be sent.
    """

    def __init__(self, url: str, headers: Headers, connection: Connection) -> None:
        super().__init__()
        self._url, self._headers, self._connection = expanded(url), dict(headers), connection
        self.origin = origin(self._url)
        self._refuse_unfit()
        parts = urlsplit(self._url)
        here = is_here(parts.hostname or "")
        secret = parts.password or parts.username or self._has("Authorization")
        self.exposed = bool(secret and parts.scheme == "http" and not here)
        self._proxies = {"no_proxy": parts.hostname or ""} if here else {}
        self._session = _Session()
        self._session.trust_env = connection.trust_env
        if self._has("Authorization"):
            self._session.auth = lambda request: request  # or .netrc would overwrite the header
        self._thread = 0
        self._kept = False

    def _has(self, header: str) -> bool:
        return header.lower() in map(str.lower, self._headers)

    def _refuse_unfit(self) -> None:
        headers = self._own_headers()
        problem = "" if self.origin else "MissingSchema"
        try:
            requests.Request("POST", self._url, headers=headers).prepare()
            "".join(headers.values()).encode("latin-1")
        except (requests.RequestException, ValueError) as error:
            problem = type(error).__name__
        if problem:  # raised here, so that no text of requests, with the address, comes along
            message = f"remote_monitor: no event could be sent with these settings: {problem}."
            raise SettingError(message, fix="root=http://HOST:PORT, and headers of plain text")

    def _own_headers(self) -> dict[str, str]:
        return {
            name: value() if callable(value) else expanded(value)
            for name, value in self._headers.items()
        }

    def __enter__(self) -> Client:
        """Begin, in the thread that posts: its lines in urllib3's logs, with the address, go."""
        self._thread = threading.get_ident()
        for logger in _loggers():
            logger.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger in _loggers():
            logger.removeFilter(self)
        self._session.close()

    def silence(self) -> None:
        """Have urllib3 not warn at every event that certificates are not checked."""
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread

    def post(self, event: Event) -> Answer:
        """Send an event once, and say what came of it; never raises what requests does."""
        try:
            response = self._request(event)
        except Exception as error:  # its text holds the address
            kept, self._kept = self._kept, False
            if kept and isinstance(error, requests.ConnectionError):
                return self.post(event)  # a connection that was kept may be closed at any time
            return Answer(f"cannot be reached ({reason(error)}); events are kept", again=True)
        with response, suppress(Exception):  # the status is known; the rest is of no interest
            if int(response.headers.get("Content-Length", SHORT + 1)) <= SHORT:
                response.raw.read1(SHORT)  # all of it read, the connection can be used again
                self._kept = True
        return judged(response.status_code, response.headers.get("Retry-After"))

    def _request(self, event: Event) -> requests.Response:
        own = {"Content-Type": event.kind, **self._own_headers(), "Idempotency-Key": event.key}
        return self._session.post(
            self._url,
            data=event.body.encode(),
            headers=own,
            timeout=self._connection.timeout,
            verify=self._connection.verify,
            proxies=self._proxies,
            allow_redirects=False,
            stream=True,
        )


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict)
    return [logging.getLogger(name) for name in known if name.partition(".")[0] == "urllib3"]


def expanded(text: str) -> str:
    """Put what the environment holds in place of ``${NAME}``.

    Raises:
        SettingError: If it does not hold it.
    """

    def held(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            message = f"remote_monitor: ${{{match[1]}}} is not in the environment."
            raise SettingError(message, fix=f"export {match[1]}=...")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", held, text)


def origin(url: str) -> str:
    """Give scheme, host and port of an address: no user, no path, no query. Empty if it has none.

    The path is left out too: that of a web hook is its secret.
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}" if parts.scheme in ("http", "https") and host else ""


def is_here(host: str) -> bool:
    """Tell whether a host is this machine, which no proxy can reach."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def reason(error: BaseException) -> str:
    """Say why a request failed, in the words of the system, which know no address."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    words: Any = None
    link: BaseException | None = error
    while link is not None:
        words = getattr(link, "strerror", None) or words
        link = link.__cause__ or link.__context__
    return str(words or type(error).__name__)
