"""What a server gets, however it behaves."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hookloop_remote_monitor import RemoteMonitor

from hookloop import CallbackList, Trainer
from hookloop.errors import SettingError

FAST = {"backoff": (0.001, 0.01), "timeout": 5.0}
FIRST = "data=%7B%22epoch%22%3A+0%2C+%22loss%22%3A+0.5%7D"

Run = Callable[..., CallbackList]


def epochs(callbacks: CallbackList, *indices: int) -> None:
    for epoch in indices:
        callbacks.on_epoch_end(epoch, {"loss": 0.5})


def finish(callbacks: CallbackList, *indices: int) -> None:
    epochs(callbacks, *indices)
    callbacks.on_train_end()


def indices(requests: list[Any]) -> list[int]:
    """The epochs of what arrived, from their keys."""
    return [int(request.key.partition("-")[2]) for request in requests]


# -- a good server ---------------------------------------------------------------


def test_an_epoch_is_posted_as_keras_does(server: Any, run: Run) -> None:
    """Address, content type and body, byte for byte."""
    callbacks = run(RemoteMonitor(server.root))
    callbacks.on_epoch_end(0, {"loss": 0.5})
    callbacks.on_train_end()
    [got] = server.requests
    assert (got.path, got.body) == ("/publish/epoch/end/", FIRST)
    assert got.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert got.headers["Content-Length"] == str(len(FIRST))


@pytest.mark.reliability("F6")
def test_as_json_the_body_is_the_json(server: Any, run: Run) -> None:
    """``send_as_json``, another path, and what JSON has no number for."""
    callbacks = run(RemoteMonitor(server.root, path="/x?y=1", send_as_json=True))
    values = {"loss": float("nan"), "each": torch.tensor([1.0, float("inf")]), "n": 3}
    callbacks.on_epoch_end(0, values)
    callbacks.on_train_end()
    [got] = server.requests
    assert got.path == "/x?y=1"
    assert got.headers["Content-Type"] == "application/json"
    assert got.body == '{"epoch": 0, "loss": null, "each": [1.0, null], "n": 3}'


def test_another_field_of_the_form(server: Any, run: Run) -> None:
    """``field`` names it."""
    callbacks = run(RemoteMonitor(server.root, field="metrics"))
    epochs(callbacks, 0)
    callbacks.on_train_end()
    assert server.requests[0].body == FIRST.replace("data", "metrics")


def test_headers_go_with_every_event(server: Any, run: Run) -> None:
    """One's own content type too."""
    headers = {"X-Plain": "café", "Authorization": "Bearer t0k3n", "content-type": "text/mine"}
    finish(run(RemoteMonitor(server.root, headers=headers)), 0, 1)
    assert [{name: request.headers[name] for name in headers} for request in server.requests] == [
        headers,
        headers,
    ]


def test_user_and_password_of_the_address_become_the_header(server: Any, run: Run) -> None:
    """As in requests."""
    callbacks = run(RemoteMonitor(server.root.replace("//", "//me:word@")))
    epochs(callbacks, 0)
    callbacks.on_train_end()
    assert server.requests[0].headers["Authorization"] == "Basic bWU6d29yZA=="


def test_events_arrive_in_order_each_with_a_key_of_its_own(server: Any, run: Run) -> None:
    """Over one connection, as the answers are short."""
    callbacks = run(RemoteMonitor(server.root))
    epochs(callbacks, *range(20))
    callbacks.on_train_end()
    assert indices(server.requests) == list(range(20))
    assert len({request.key for request in server.requests}) == 20
    assert len({request.connection for request in server.requests}) == 1


def test_two_runs_have_different_keys(server: Any, run: Run) -> None:
    """Also of one instance."""
    monitor = RemoteMonitor(server.root)
    for _ in range(2):
        callbacks = run(monitor)
        epochs(callbacks, 0)
        callbacks.on_train_end()
    assert len({request.key for request in server.requests}) == 2


def test_batches_are_events_if_asked_for(server: Any) -> None:
    """Each before its epoch, with a key of its own."""
    x = torch.linspace(-1, 1, 12).reshape(-1, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    monitor = RemoteMonitor(server.root, send_as_json=True, batches=True)
    trainer.fit((x, 3 * x), epochs=2, batch_size=6, callbacks=[monitor], verbose=0)
    keys = [request.key.partition("-")[2] for request in server.requests]
    assert keys == ["0-0", "0-1", "0", "1-0", "1-1", "1"]
    body = r'\{"epoch": 0, "batch": 1, "size": 6, "loss": \d+\.\d+\}'
    assert re.fullmatch(body, server.requests[1].body)


def test_without_batches_the_hook_is_none() -> None:
    """So that it costs nothing."""
    assert RemoteMonitor().on_train_batch_end is None
    assert RemoteMonitor(batches=True).on_train_batch_end is not None


class OnDevice:
    """A number for which one would wait."""

    ndim, device = 0, SimpleNamespace(type="cuda")
    read = 0

    def tolist(self) -> float:
        OnDevice.read += 1
        return 0.5


def test_no_batch_waits_for_an_accelerator(server: Any, run: Run) -> None:
    """Its numbers are read together, when a hundred have come or the epoch ends."""
    callbacks = run(RemoteMonitor(server.root, batches=True))
    read = []
    for batch in range(105):
        callbacks.on_train_batch_end(batch, {"loss": OnDevice()})
        read.append(OnDevice.read)
    finish(callbacks, 0)
    assert (read[98], read[99], read[104], OnDevice.read) == (0, 100, 100, 105)
    assert [request.key.rpartition("-")[2] for request in server.requests] == [
        *map(str, range(105)),
        "0",
    ]


# -- a bad one ---------------------------------------------------------------


@pytest.mark.reliability("F2", "F7")
@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_what_passes_is_sent_again(server: Any, run: Run, status: int) -> None:
    """In order, with the same key and body; the cause is said once, at the next hook."""
    server.once(lambda handler: handler.answer(status), times=3)
    callbacks = run(RemoteMonitor(server.root, **FAST))
    epochs(callbacks, 0)
    server.wait(lambda: len(server.accepted) == 1)
    with pytest.warns(RuntimeWarning, match=f"answered {status}; events are kept") as warned:
        epochs(callbacks, 1)
    callbacks.on_train_end()
    assert indices(server.requests) == [0, 0, 0, 0, 1]
    assert len({(request.key, request.body) for request in server.requests}) == 2
    assert len(warned) == 1


@pytest.mark.reliability("F7")
@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_what_stays_so_is_dropped_and_said(server: Any, run: Run, status: int) -> None:
    """Sent once; the others go on."""
    server.once(lambda handler: handler.answer(status, Location="/elsewhere"))
    callbacks = run(RemoteMonitor(server.root, **FAST))
    with pytest.warns(RuntimeWarning) as warned:
        finish(callbacks, 0, 1)
    assert indices(server.requests) == [0, 1]
    first, second = (str(one.message) for one in warned)
    assert f"remote_monitor: {server.root} answered {status}" in first
    assert "fix:" in first
    assert f"remote_monitor: 1 events were refused by {server.root}, and dropped.\nfix:" in second


@pytest.mark.reliability("F7")
def test_retry_after_is_honoured(server: Any, run: Run) -> None:
    """The event is not sent before, not even because training ends."""
    server.once(lambda handler: handler.answer(429, Retry_After="1"))
    callbacks = run(RemoteMonitor(server.root, flush_timeout=0.05, **FAST))
    epochs(callbacks, 0)
    server.wait(lambda: len(server.requests) == 1)
    with pytest.warns(RuntimeWarning) as warned:
        callbacks.on_train_end()
    assert len(server.requests) == 1
    assert "1 events were not delivered" in str(warned[-1].message)


def test_the_end_of_training_tries_once_more(server: Any, run: Run) -> None:
    """In the midst of a long wait, since the server may be back."""
    server.once(lambda handler: handler.answer(500))
    callbacks = run(RemoteMonitor(server.root, backoff=(60.0, 60.0)))
    epochs(callbacks, 0)
    server.wait(lambda: len(server.requests) == 1)
    with pytest.warns(RuntimeWarning, match="answered 500"):
        callbacks.on_train_end()
    assert len(server.accepted) == 1


def hang(handler: Any) -> None:
    handler.server.owner.release.wait(5)


def drop(handler: Any) -> None:
    handler.connection.shutdown(2)


def half(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 20")


def garbage(handler: Any) -> None:
    handler.wfile.write(b"\x00\xff\r\n\r\n")


@pytest.mark.reliability("F2")
@pytest.mark.parametrize("act", [hang, drop, half, garbage])
def test_no_proper_answer_is_as_none(server: Any, run: Run, act: Any) -> None:
    """The event is sent again, and arrives."""
    server.once(act, times=2)
    callbacks = run(RemoteMonitor(server.root, backoff=(0.001, 0.01), timeout=0.2))
    with pytest.warns(RuntimeWarning, match="cannot be reached"):
        finish(callbacks, 0, 1)
    assert list(dict.fromkeys(indices(server.requests))) == [0, 1]
    assert indices(server.requests).count(0) >= 3
    assert len({request.key for request in server.requests}) == 2


@pytest.mark.reliability("F2")
def test_a_server_that_dies_and_comes_back_gets_everything(server: Any, run: Run) -> None:
    """In order, without a loss."""
    callbacks = run(RemoteMonitor(server.root, **FAST))
    epochs(callbacks, 0, 1)
    server.wait(lambda: len(server.accepted) == 2)
    server.behave = lambda handler: drop(handler) or True
    epochs(callbacks, 2)
    server.wait(lambda: len(server.requests) == 3)
    server.stop()
    with warnings.catch_warnings(action="ignore"):
        epochs(callbacks, 3, 4)
    server.behave = lambda handler: None
    server.start()
    server.wait(lambda: len(server.accepted) == 5)
    with warnings.catch_warnings(action="ignore"):  # one cause or two, by who was faster
        callbacks.on_train_end()
    assert indices(server.accepted) == [0, 1, 2, 3, 4]


def endless(handler: Any) -> None:
    """Answer 200, and go on for ever."""
    handler.send_response(200)
    handler.end_headers()
    poured = 0
    while not handler.server.owner.release.is_set() and poured < 1_000_000_000:
        poured += handler.connection.send(b"x" * 1_000_000)
        handler.server.owner.poured = poured


@pytest.mark.reliability("F10")
def test_an_endless_answer_is_not_read(server: Any, run: Run) -> None:
    """Its status is enough: the connection is closed, and the event counts as delivered."""
    server.once(endless)
    callbacks = run(RemoteMonitor(server.root))
    epochs(callbacks, 0, 1)
    callbacks.on_train_end()
    assert indices(server.requests) == [0, 1]
    assert server.poured < 100_000_000


# -- training is not disturbed ---------------------------------------------------------------


@pytest.fixture(params=["hanging", "silent", "refusing", "failing", "busy", "closing", "slow"])
def dead(request: pytest.FixtureRequest, server: Any, silent: str, nobody: str) -> str:
    """The address of a server that is of no use."""

    def fail(handler: Any) -> bool:
        handler.answer(500)
        return True

    def ask_to_wait(handler: Any) -> bool:
        handler.answer(429, Retry_After="60")
        return True

    def answer_late(handler: Any) -> None:
        server.release.wait(0.5)

    behaviours = {"failing": fail, "busy": ask_to_wait, "slow": answer_late}
    behaviours["closing"] = lambda handler: drop(handler) or True
    server.behave = behaviours.get(request.param, lambda handler: hang(handler) or True)
    return {"silent": silent, "refusing": nobody}.get(request.param, server.root)


@pytest.mark.reliability("F1", "F5")
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_hook_waits_for_the_server(dead: str, run: Run, spooled: bool, tmp_path: Any) -> None:
    """The quickest of some shows what the hook itself takes: under 5 ms."""
    spool = tmp_path / "spool" if spooled else None
    callbacks = run(RemoteMonitor(dead, spool=spool, flush_timeout=0.05, timeout=5.0))
    taken = []
    for epoch in range(20):
        begun = time.perf_counter()
        callbacks.on_epoch_end(epoch, {"loss": 0.5})
        taken.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    callbacks.on_train_end()
    assert sorted(taken)[10] < 0.005
    assert time.perf_counter() - begun < 1.0


@pytest.mark.reliability("F4")
def test_what_memory_lost_is_said_at_the_end(nobody: str, run: Run) -> None:
    """With the number: those that had no room, and those that are left."""
    callbacks = run(RemoteMonitor(nobody, queue_size=3, flush_timeout=0.0))
    with pytest.warns(RuntimeWarning) as warned:
        finish(callbacks, *range(10))
    assert str(warned[-1].message) == (
        f"remote_monitor: 10 events were not delivered to {nobody}, and are lost.\n"
        "fix: spool=PATH keeps events on disk; queue_size= and queue_bytes= say how many"
    )


@pytest.mark.reliability("A10")
def test_it_only_observes(server: Any) -> None:
    """Weights and random numbers are those of a run without it."""

    def weights(callbacks: list[Any]) -> tuple[list[float], list[int]]:
        x = torch.linspace(-1, 1, 32).reshape(-1, 1)
        model = torch.nn.Sequential(
            torch.nn.Linear(1, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1)
        )
        trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.1", seed=0)
        trainer.fit((x, 3 * x), epochs=3, batch_size=8, callbacks=callbacks, verbose=0)
        values = [value for p in model.parameters() for value in p.flatten().tolist()]
        return values, torch.get_rng_state().tolist()

    torch.manual_seed(0)
    alone = weights([])
    torch.manual_seed(0)
    assert weights([RemoteMonitor(server.root, batches=True)]) == alone
    assert len(server.requests) == 15


# -- settings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timeout", 0),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("flush_timeout", -1.0),
        ("flush_timeout", float("nan")),
        ("backoff", (2, 1)),
        ("backoff", (0, 1)),
        ("backoff", (1, 2**70)),
        ("queue_size", 0),
        ("queue_bytes", 0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(setting: str, value: Any) -> None:
    """When the callback is made."""
    shown = re.escape(f"{setting}={value}")
    with pytest.raises(SettingError, match=f"no sense: .*{shown}.*\nfix: "):
        RemoteMonitor(**{setting: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"root": "localhost:9000"},
        {"root": "ftp://localhost"},
        {"root": ""},
        {"root": "http://localhost:port"},
        {"root": "http://[::1"},
        {"headers": {"X": "two\nlines"}},
        {"headers": {"X": "♞"}},
    ],
    ids=str,
)
def test_what_could_never_be_sent_is_refused_before_training(
    settings: dict[str, Any], run: Run
) -> None:
    """Instead of an event that fails for ever; a value is not repeated, as it may be secret."""
    with pytest.raises(SettingError, match="fix: ") as refused:
        run(RemoteMonitor(**settings))
    values = [settings.get("root", ""), *settings.get("headers", {}).values()]
    assert not any(value in str(refused.value) for value in values if value)
