"""remote_monitor: what every epoch reported, posted to a web server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from hookloop import Callback, Logs, hookimpl
from hookloop.errors import SettingError, warn
from hookloop_remote_monitor._event import PATH, event
from hookloop_remote_monitor._queue import Queue

if TYPE_CHECKING:
    from hookloop_remote_monitor._sender import Sender

__all__ = ["RemoteMonitor"]
__version__ = "0.1.0"

#: Seconds: some three weeks, as long as a socket can wait.
LONGEST = 2_000_000
#: Batches that are read together where reading one would wait for the device.
TOGETHER = 100


class RemoteMonitor(Callback):
    """Posts the logs of every epoch to a web server, and never makes training wait for it.

    A thread of its own sends the events in order, each again until the server has it: after no
    answer and after 408, 429 and 5xx, at growing intervals or when ``Retry-After`` says.
    The header ``Idempotency-Key`` is the same whenever an event is sent again.

    Args:
        root: Where the server is: scheme, host and port.
        path: What follows in the address.
        field: Field of the form that holds the JSON text; not used with ``send_as_json``.
        headers: Headers of every request.
        send_as_json: Whether the body is the JSON text itself instead of a form.
        spool: Folder in which events wait; what a run could not deliver, the next run with this
            folder does, or ``hookloop remote-sync``. Without one they wait in memory.
        timeout: Seconds to connect, and to wait for an answer.
        flush_timeout: Seconds that the end of training waits for what is not delivered yet.
        backoff: Seconds to wait after the first failure, and the most after several.
        queue_size: Events that may wait; beyond it the oldest are lost.
        queue_bytes: Bytes that they may take together, likewise.
        batches: Whether every batch is an event too.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    observer = True
    secret_settings: ClassVar[tuple[str, ...]] = ("root", "path", "headers")
    varies: ClassVar[tuple[str, ...]] = ("run",)

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = PATH,
        field: str = "data",
        headers: Mapping[str, str] | None = None,
        send_as_json: bool = False,
        *,
        spool: str | os.PathLike[str] | None = None,
        timeout: float = 10.0,
        flush_timeout: float = 5.0,
        backoff: tuple[float, float] = (1.0, 60.0),
        queue_size: int = 10_000,
        queue_bytes: int = 64_000_000,
        batches: bool = False,
    ) -> None:
        room = queue_size > 0 and queue_bytes > 0
        waits = 0 < timeout <= LONGEST and 0 <= flush_timeout <= LONGEST
        if not (waits and 0 < backoff[0] <= backoff[1] <= LONGEST and room):
            asked = f"{timeout=}, {flush_timeout=}, {backoff=}, {queue_size=}, {queue_bytes=}"
            fix = (
                "flush_timeout=0 or more, the others more than 0, of backoff the shorter first, "
                f"and none of more than {LONGEST:,} seconds"
            )
            raise SettingError(f"remote_monitor: these make no sense: {asked}.", fix=fix)
        self.root, self.path, self.field = root, path, field
        self.headers = dict(headers or {})
        self.send_as_json, self.spool = send_as_json, spool
        self.timeout, self.flush_timeout, self.backoff = timeout, flush_timeout, backoff
        self.queue_size, self.queue_bytes = queue_size, queue_bytes
        if not batches:  # then the hook is none, and costs nothing
            setattr(self, "on_train_batch_end", None)
        self._run = ""
        self._batches: list[tuple[int, dict[str, Any]]] = []
        self._sender: Sender | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        from hookloop_remote_monitor._sender import Client, Sender  # requests takes its time

        if self._sender is not None:  # a loop of one's own may have failed before its end
            self._sender.close(0.0)
        self._run, self._batches = uuid4().hex, []
        client = Client(self.root + self.path, self.headers, self.timeout)
        self._sender = Sender(self._queue(client.origin), client, self.backoff)
        if client.exposed:
            told = f"credentials travel to {client.origin} without encryption"
            self._warn([f"{told}, and can be read on the way.\nfix: root='https://...'"])

    @hookimpl(trylast=True)
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        values = dict(logs.raw_items() if isinstance(logs, Logs) else logs or {})
        self._batches.append((batch, values))
        if len(self._batches) >= TOGETHER or not any(map(_waits, values.values())):
            self._put_batches()

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._put_batches()
        self._put(f"{epoch}", {"epoch": epoch, **(logs or {})})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._put_batches()
        sender, self._sender = self._sender, None
        if sender is None:  # the run was refused before it began
            return
        left = sender.close(self.flush_timeout)
        self._warn(sender.news())
        where = sender.client.origin
        if left and self.spool is not None:
            self.loop.message(
                f"{self.loop.name_of(self)}: {left} events could not be delivered to {where} yet. "
                "The next run with this spool sends them, and so does: "
                f"hookloop remote-sync {self.spool}"
            )
        lost = sender.queue.lost + (left if self.spool is None else 0)
        if lost:
            fix = "spool=PATH keeps events on disk; queue_size= and queue_bytes= say how many"
            self._warn([f"{lost} events were not delivered to {where}, and are lost.\nfix: {fix}"])
        if sender.refused:
            self._warn([f"{sender.refused} events were refused by {where}, and dropped."])

    def _queue(self, origin: str) -> Queue:
        if self.spool is None:
            return Queue(self.queue_size, self.queue_bytes)
        from hookloop_remote_monitor._sync import remember

        folder = Path(self.spool).resolve()  # the script may go to another folder
        queue = Queue(self.queue_size, self.queue_bytes, folder)
        remember(folder, origin, root=self.root, path=self.path, header=self.headers)
        return queue

    def _put_batches(self) -> None:
        waiting, self._batches = self._batches, []
        for batch, values in waiting:
            place = {"epoch": self.loop.epoch, "batch": batch}
            self._put(f"{self.loop.epoch}-{batch}", {**place, **values})

    def _put(self, key: str, send: Mapping[str, Any]) -> None:
        if self._sender is not None:
            as_json = self.send_as_json
            self._sender.put(event(f"{self._run}-{key}", send, self.field, as_json=as_json))
            self._warn(self._sender.news())

    def _warn(self, messages: list[str]) -> None:
        for message in messages:
            if "\nfix: " not in message:
                folder = "" if self.spool is None else ", and at the folder spool="
                message += f"\nfix: look at the server behind root= and path={folder}"
            warn(f"{self.loop.name_of(self)}: {message}", RuntimeWarning)

    def state_dict(self) -> dict[str, Any]:
        return {"run": self._run}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._run = str(state["run"])


def _waits(value: Any) -> bool:
    """Tell whether reading a value would wait for an accelerator."""
    return getattr(getattr(value, "device", None), "type", "cpu") != "cpu"
