"""remote_monitor: what every epoch reported, posted to a web server."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from hookloop import Callback, Logs, hookimpl
from hookloop.errors import SettingError
from hookloop.files import Lock, file_error, prepare
from hookloop_remote_monitor import _target
from hookloop_remote_monitor._event import event
from hookloop_remote_monitor._memory import Memory
from hookloop_remote_monitor._pace import Pace

if TYPE_CHECKING:
    from hookloop_remote_monitor._client import Client
    from hookloop_remote_monitor._sender import Sender
    from hookloop_remote_monitor._spool import Spool

__all__ = ["RemoteMonitor"]
__version__ = "0.1.0"

#: Batches that are read together where reading one would wait for the device.
TOGETHER = 100


class RemoteMonitor(Callback):
    """Posts the logs of every epoch to a web server, and never makes training wait for it.

    A thread of its own sends the events in order, each again until the server has it: after no
    answer and after 408, 429 and 5xx, at growing intervals or when ``Retry-After`` says.
    The header ``Idempotency-Key`` is the same whenever an event is sent again.

    ``${NAME}`` in ``root``, ``path`` and ``headers`` is what the environment holds under that name.

    Args:
        root: Where the server is: scheme, host and port.
        path: What follows in the address.
        field: Field of the form that holds the JSON text; not used with ``send_as_json``.
        headers: Headers of every request; values are text, or functions without arguments that
            return it, called for every event in the thread that sends.
        send_as_json: Whether the body is the JSON text itself instead of a form.
        spool: Folder in which events wait; what a run could not deliver, the next run with this
            folder does, or ``hookloop remote-sync``. Without one they wait in memory.
        timeout: Seconds to connect, and to wait for an answer; one number is both.
        flush_timeout: Seconds that the end of training waits for what is not delivered yet.
        backoff: Seconds after the first failure, and the most after several.
        queue_size: Events that wait in memory; beyond it the oldest are lost.
        max_spool_bytes: Bytes of events that wait on disk; beyond it the oldest are lost.
        batches: Whether every batch is an event too.
        verify: Whether to check the server's certificate, or a file of certificates to trust.
        trust_env: Whether proxies, certificates and ``.netrc`` of the environment count.

    Raises:
        SettingError: For a setting that makes no sense.
    """

    observer = True
    secret_settings: ClassVar[tuple[str, ...]] = ("root", "path", "headers")

    def __init__(
        self,
        root: str = _target.ROOT,
        path: str = _target.PATH,
        field: str = "data",
        headers: Mapping[str, str | Callable[[], str]] | None = None,
        send_as_json: bool = False,
        *,
        spool: str | os.PathLike[str] | None = None,
        timeout: float | tuple[float, float] = (3.05, 10.0),
        flush_timeout: float = 5.0,
        backoff: tuple[float, float] = (1.0, 60.0),
        queue_size: int = 10_000,
        max_spool_bytes: int = 64_000_000,
        batches: bool = False,
        verify: bool | str = True,
        trust_env: bool = True,
    ) -> None:
        self.root, self.path, self.field = root, path, field
        self.headers = dict(headers or {})
        self.send_as_json = send_as_json
        self.spool = spool
        self.timeout = timeout
        self.flush_timeout = flush_timeout
        self.backoff = backoff
        self.queue_size, self.max_spool_bytes = queue_size, max_spool_bytes
        self.verify, self.trust_env = verify, trust_env
        _refuse(self)
        if not batches:  # then the hook is none, and costs nothing
            setattr(self, "on_train_batch_end", None)
        self._run = ""
        self._batches: list[tuple[int, dict[str, Any]]] = []
        self._sender: Sender | None = None
        self._lock: Lock | None = None
        self._pid = 0
        self._failing = False

    # -- hooks ---------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        from hookloop_remote_monitor._sender import Sender  # requests, only now: it sets filters

        self._close(0.0)  # of a run that never ended
        self._run, self._batches, self._failing = uuid4().hex, [], False
        client = self._client()
        if client.exposed:
            self._warn(f"credentials travel to {client.origin} unencrypted.\nfix: root=https://...")
        if self.verify is False:
            client.silence()
            self._warn("certificates are not checked: anybody can pose as the server.")
        self._sender = Sender(self._store(client), client, Pace(*self.backoff))
        self._pid = os.getpid()
        self._sender.start()

    @hookimpl(trylast=True)
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        values = dict(logs.raw_items() if isinstance(logs, Logs) else logs or {})
        self._batches.append((batch, values))
        if len(self._batches) >= TOGETHER or not any(map(_waits, values.values())):
            self._emit_batches()

    @hookimpl(trylast=True)
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._emit_batches()
        self._emit(f"{epoch}", {"epoch": epoch, **(logs or {})})
        if self._sender is not None:
            self._tell(self._sender)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._emit_batches()
        sender = self._sender
        if sender is None or os.getpid() != self._pid:
            return
        left = self._close(self.flush_timeout)
        self._tell(sender)
        where = sender.client.origin
        if left and self.spool is not None:
            self.loop.message(
                f"{self._who}: {left} events could not be delivered to {where} yet. The next run "
                f"with this spool sends them, and so does: hookloop remote-sync {self.spool}"
            )
        lost = sender.store.lost + (left if self.spool is None else 0)
        if lost:
            fix = "spool=PATH keeps them on disk" if self.spool is None else "max_spool_bytes=more"
            self._warn(f"{lost} events were not delivered to {where}, and are lost.\nfix: {fix}")
        if sender.refused:
            self._warn(f"{sender.refused} events were refused by {where}, and dropped.")

    # -- what they do ---------------------------------------------------------------

    def _client(self) -> Client:
        from hookloop_remote_monitor._client import Client, Connection

        connection = Connection(_pair(self.timeout), self.verify, self.trust_env)
        return Client(self.root + self.path, self.headers, connection)

    def _store(self, client: Client) -> Memory | Spool:
        if self.spool is None:
            return Memory(self.queue_size)
        from hookloop_remote_monitor._spool import CURSOR, Spool

        folder = Path(os.path.realpath(self.spool))  # one folder, however its path is written
        prepare(folder / CURSOR, self.loop, self._who)
        self._lock = Lock(folder)
        self._lock.acquire()
        try:
            spool = Spool(folder, self.max_spool_bytes, self.queue_size)
            target = _target.target(client.origin, self.root, self.path, self.headers)
            _target.save(folder, target)
        except OSError as error:
            self._lock.release()
            raise file_error(folder, error) from error
        return spool

    def _emit_batches(self) -> None:
        waiting, self._batches = self._batches, []
        for batch, values in waiting:
            place = {"epoch": self.loop.epoch, "batch": batch}
            self._emit(f"{self.loop.epoch}-{batch}", {**place, **values})

    def _emit(self, key: str, send: Mapping[str, Any]) -> None:
        if self._sender is None or os.getpid() != self._pid:  # a forked process has no sender
            return
        one = event(f"{self._run}-{key}", send, self.field, as_json=self.send_as_json)
        try:
            self._sender.put(one)
        except OSError as error:
            if not self._failing:
                self._warn(f"events are kept in memory meanwhile: {file_error(self._at, error)}")
            self._failing = True
        else:
            self._failing = False

    def _close(self, timeout: float) -> int:
        """End the sender, and leave the spool to others."""
        sender, self._sender = self._sender, None
        lock, self._lock = self._lock, None
        try:
            return sender.close(timeout) if sender is not None else 0
        finally:
            if sender is not None:
                with suppress(OSError):  # then a next run sends some again, with the same keys
                    sender.store.close()
            if lock is not None:
                lock.release()

    def _tell(self, sender: Sender) -> None:
        for problem in sender.news():
            self._warn(problem)

    def _warn(self, message: str) -> None:
        warnings.warn(f"{self._who}: {message}", RuntimeWarning, stacklevel=2)

    @property
    def _at(self) -> str | os.PathLike[str]:
        return self.spool if self.spool is not None else ""

    @property
    def _who(self) -> str:
        names = (name for name, one in self.loop.callbacks.items() if one is self)
        return next(names, "remote_monitor")

    def state_dict(self) -> dict[str, Any]:
        return {"run": self._run}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._run = str(state["run"])


def _refuse(monitor: RemoteMonitor) -> None:
    """Refuse settings that make no sense; none of their values is shown that may be secret."""
    wrong = {
        "timeout": not all(one > 0 for one in _pair(monitor.timeout)),
        "flush_timeout": not monitor.flush_timeout >= 0,
        "backoff": len(monitor.backoff) != 2 or not 0 < monitor.backoff[0] <= monitor.backoff[1],
        "queue_size": monitor.queue_size < 1,
        "max_spool_bytes": monitor.max_spool_bytes < 1,
    }
    fixes = {
        "timeout": "timeout=(3.05, 10.0), in seconds: to connect, and to wait for an answer",
        "flush_timeout": "flush_timeout=0 or more, in seconds",
        "backoff": "backoff=(1.0, 60.0), in seconds: after the first failure, and at most",
        "queue_size": "queue_size=1 or more",
        "max_spool_bytes": "max_spool_bytes=1 or more",
    }
    for name in (name for name, found in wrong.items() if found):
        message = f"remote_monitor: {name}={getattr(monitor, name)!r} makes no sense."
        raise SettingError(message, fix=fixes[name])


def _pair(timeout: float | Sequence[float]) -> tuple[float, float]:
    """Give the two numbers of a setting that may be one; of a wrong one, such as are refused."""
    if isinstance(timeout, int | float):
        return timeout, timeout
    return (timeout[0], timeout[1]) if len(timeout) == 2 else (0.0, 0.0)


def _waits(value: Any) -> bool:
    """Tell whether reading a value would wait for an accelerator."""
    return getattr(getattr(value, "device", None), "type", "cpu") != "cpu"
