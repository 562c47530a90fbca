"""The thread that sends, so that training never waits."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

from hookloop_remote_monitor._client import Client
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._memory import Memory
from hookloop_remote_monitor._pace import Pace
from hookloop_remote_monitor._spool import Spool


class Sender:
    """Sends what a store holds, one event after the other, each until it has its answer.

    Args:
        store: Where events wait.
        client: Where they go.
        pace: How long to wait after a failure.

    Attributes:
        refused: How many events the server would not have.
    """

    def __init__(self, store: Memory | Spool, client: Client, pace: Pace) -> None:
        self.store, self.client = store, client
        self.refused = 0
        self._pace = pace
        self._failures = 0
        self._hurry = self._over = False
        self._told: set[str] = set()
        self._news: deque[str] = deque()
        self._changed = threading.Condition()
        # A daemon: the process may end while a server keeps it waiting.
        self._thread = threading.Thread(target=self._run, name="hookloop-remote-monitor")
        self._thread.daemon = True

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event) -> None:
        """Have an event sent.

        Raises:
            OSError: If the store cannot write it now.
        """
        self.store.append(event)
        self._notify()

    def news(self) -> list[str]:
        """Give what went wrong since the last call, each cause once."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def close(self, timeout: float) -> int:
        """Wait until all is sent, but not long, and end.

        Args:
            timeout: Seconds.

        Returns:
            How many events were not sent.
        """
        limit = monotonic() + timeout
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: not len(self.store), timeout)
            finally:
                self._over = True
                self._changed.notify_all()
        if not len(self.store):
            self._thread.join(max(limit - monotonic(), 0.1))
        return len(self.store)

    # -- in the thread ---------------------------------------------------------------

    def _run(self) -> None:
        with self.client:
            while self._has_work():
                try:
                    self._send_first()
                except Exception as error:
                    self._tell(f"an event could not be taken or marked as sent: {reason_of(error)}")
                    self._pause(None)

    def _has_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._over or len(self.store))
            return not self._over

    def _send_first(self) -> None:
        found = self.store.first()
        if found is None:
            return self._notify()
        number, event = found
        answer = self.client.post(event)
        if answer.problem:
            self._tell(f"{self.client.origin} {answer.problem}")
        if answer.again:
            return self._pause(answer.after)
        self._failures = 0
        self.refused += answer.problem is not None
        try:
            self.store.done(number)
        finally:
            self._notify()
        return None

    def _pause(self, asked: float | None) -> None:
        """Wait after a failure; when the run ends, try once more, unless asked not to."""
        self._failures += 1
        delay = self._pace.delay(self._failures, asked)
        with self._changed:
            self._changed.wait_for(lambda: self._over or (self._hurry and asked is None), delay)
            self._hurry = False

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            self._news.append(problem)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def reason_of(error: Exception) -> str:
    """Say what happened, without a text that may hold what is not ours to show."""
    return getattr(error, "strerror", None) or type(error).__name__
