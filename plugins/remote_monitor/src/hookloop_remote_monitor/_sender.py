"""The thread that sends, so that training never waits, and shows no secret."""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from hookloop.errors import SettingError
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._queue import Queue

THREAD = "hookloop-remote-monitor"
#: Longest wait that a server can ask for with Retry-After, in seconds.
LONGEST_ASKED = 300.0
#: Bytes of an answer that are read for the sake of the connection; one may be endless.
SHORT = 1024
#: Names of headers that are credentials.
_CREDENTIAL = re.compile(r"auth|token|key|secret|cookie|password", re.IGNORECASE)


# -- deciding ---------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came of sending an event.

    Attributes:
        problem: What to tell the user; None if the event was delivered.
        again: Whether to send it again.
        after: Seconds that the server asks to wait before that, or None.
    """

    problem: str | None = None
    again: bool = False
    after: float | None = None


def judged(status: int, asked: str | None) -> Answer:
    """Decide what a status means: 2xx is delivered; 408, 429 and 5xx pass; all else stays so.

    Args:
        status: HTTP status code.
        asked: The header Retry-After, if there was one.
    """
    if 200 <= status < 300:
        return Answer()
    if status not in (408, 429) and status < 500:
        told = f"answered {status}: such events are dropped, as sending them again would not help"
        return Answer(f"{told}\nfix: correct root=, path= or headers=; no redirection is followed")
    after = None
    with suppress(InvalidHeader, ValueError, OverflowError):
        after = None if asked is None else min(Retry().parse_retry_after(asked), LONGEST_ASKED)
    return Answer(f"answered {status}; events are kept, and sent later", again=True, after=after)


def delay(failures: int, asked: float | None, backoff: tuple[float, float], chance: float) -> float:
    """Tell how many seconds to wait: as asked, or twice as long each time, up to the half less.

    Args:
        failures: How many there were in a row.
        asked: Seconds that the server asks for, which is kept to, but for a moment at least.
        backoff: Seconds after the first failure, and at most.
        chance: A random number in [0, 1), so that many runs do not come back at once.
    """
    first, longest = backoff
    if asked is not None:
        return max(asked, first / 2)
    return min(first * 2.0 ** min(failures - 1, 60), longest) * (1 + chance) / 2


# -- sending ---------------------------------------------------------------


class Client:
    """Posts events to one address.

    Args:
        url: Where to.
        headers: What to send with each.
        timeout: Seconds to connect, and between two bytes of the answer.

    Attributes:
        origin: Scheme, host and port: all of the address that may be shown.
        exposed: Whether credentials travel over a network without encryption.
        session: The connections.

    Raises:
        SettingError: If the address or a header cannot be sent.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self.session = requests.Session()
        self.session.stream = True
        problem = ""
        try:
            self._headers = CaseInsensitiveDict(headers)
            "".join(headers.values()).encode("latin-1")  # as they travel
            requests.Request("POST", url, headers=self._headers).prepare()
            self.session.get_adapter(url)
        except (requests.RequestException, ValueError) as error:
            problem = type(error).__name__
        if problem:  # raised here, so that no text of requests, with the address, comes along
            message = f"remote_monitor: no event could be sent with these settings: {problem}."
            raise SettingError(message, fix="root=http://HOST:PORT, and headers of plain text")
        parts = urlsplit(url)
        here = is_loopback(parts.hostname or "")
        # What is meant for this machine would get lost in a proxy, which requests would ask.
        self._proxies = {"no_proxy": parts.hostname or ""} if here else None
        secret = bool(parts.username) or any(map(_CREDENTIAL.search, self._headers))
        self.exposed = secret and parts.scheme == "http" and not here
        self.origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        if "Authorization" in self._headers:
            self.session.auth = lambda request: request  # or .netrc would overwrite the header

    def post(self, event: Event) -> Answer:
        """Send an event once, and say what came of it; never raises what requests does."""
        headers = {"Content-Type": event.kind, **self._headers, "Idempotency-Key": event.key}
        try:
            response = self.session.post(
                self._url,
                event.body,
                headers=headers,
                timeout=self._timeout,
                proxies=self._proxies,
                allow_redirects=False,  # another host must not get the headers
            )
        except Exception as error:  # its text holds the address
            return Answer(f"cannot be reached ({reason(error)}); events are kept", again=True)
        with response, suppress(Exception):  # the status is known; the rest is of no interest
            response.raw.read1(SHORT)  # a short answer is read whole, and its connection kept
        return judged(response.status_code, response.headers.get("Retry-After"))


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", host) is not None


def reason(error: BaseException) -> str:
    """Say why a request failed, in the words of the system, which know no address."""
    while error.__context__ is not None and not getattr(error, "strerror", None):
        error = error.__context__
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _is_of_others(_: logging.LogRecord) -> bool:
    """Tell whether a line of urllib3's logs may be shown: those about events hold the address."""
    return threading.current_thread().name != THREAD


class Sender:
    """Sends what a queue holds in a thread, one event after the other, until each has its answer.

    Args:
        queue: Where events wait; from now on the sender's own.
        client: Where they go.
        backoff: Seconds to wait after the first failure, and at most.

    Attributes:
        refused: How many events the server would not have.
    """

    def __init__(self, queue: Queue, client: Client, backoff: tuple[float, float]) -> None:
        self.queue, self.client = queue, client
        self.refused = 0
        self._backoff = backoff
        self._hurry = self._over = False
        self._told: set[str] = set()
        self._news: list[str] = []
        self._changed = threading.Condition()  # held for whatever touches the queue
        for name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
            logging.getLogger(f"urllib3.{name}").addFilter(_is_of_others)
        # A daemon: the process may end while a server keeps it waiting.
        threading.Thread(target=self._run, name=THREAD, daemon=True).start()

    def put(self, event: Event) -> None:
        """Have an event sent."""
        with self._changed:
            try:
                self.queue.append(event)
            except OSError as error:
                self._tell(f"events are kept in memory: the spool says {error.strerror!r}.")
            self._changed.notify_all()

    def news(self) -> list[str]:
        """Give what went wrong since the last call, each cause once."""
        with self._changed:
            news, self._news = self._news, []
        return news

    def close(self, timeout: float) -> int:
        """Wait until all is sent, but not long, and end.

        Args:
            timeout: Seconds.

        Returns:
            How many events were not sent.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: not self.queue, timeout)
            finally:
                self._over = True  # what is answered from now on is the next run's business
                self._changed.notify_all()
                self.queue.close()
            return len(self.queue)

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            self._news.append(problem)

    # -- in the thread ---------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        with self.client.session:
            while (event := self._next()) is not None:
                answer = self.client.post(event)
                failures = failures + 1 if answer.again else 0
                with self._changed:
                    if answer.problem is not None:
                        self._tell(f"{self.client.origin} {answer.problem}")
                    if answer.again:
                        self._pause(failures, answer.after)
                    elif not self._over:
                        self.refused += answer.problem is not None
                        self.queue.done(event)
                        self._changed.notify_all()

    def _next(self) -> Event | None:
        with self._changed:
            self._changed.wait_for(lambda: self._over or self.queue)
            return None if self._over else self.queue.first()

    def _pause(self, failures: int, asked: float | None) -> None:
        """Wait after a failure; when the run ends, try once more, unless asked not to."""
        chance = random.Random().random()  # not of the generator that the run uses
        seconds = delay(failures, asked, self._backoff, chance)
        self._changed.wait_for(lambda: self._over or (self._hurry and asked is None), seconds)
        self._hurry = False
