"""Where events wait: order, bounds, and what survives."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._queue import Queue

ROOM = 1_000_000


def filled(queue: Queue, *numbers: int) -> Queue:
    for number in numbers:
        queue.append(Event(str(number), "", "é\n"))
    return queue


def taken(queue: Queue, count: int = 1_000_000) -> list[int]:
    keys = []
    while queue and len(keys) < count:
        event = queue.first()
        keys.append(int(event.key))
        queue.done(event)
    return keys


@pytest.fixture(params=["memory", "spool"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Queue:
    """Either kind, with room for three events."""
    return Queue(3, ROOM, None if request.param == "memory" else tmp_path)


def test_events_leave_in_the_order_in_which_they_came(queue: Queue) -> None:
    """Also if some come meanwhile."""
    filled(queue, 0, 1)
    assert taken(queue, 1) == [0]
    filled(queue, 2, 3)
    assert (len(queue), taken(queue), len(queue), queue.lost) == (3, [1, 2, 3], 0, 0)


@pytest.mark.reliability("F4")
def test_beyond_the_bound_the_oldest_are_lost_and_counted(queue: Queue, tmp_path: Path) -> None:
    """What is newest is of most interest; the bound holds on disk too."""
    filled(queue, *range(10))
    assert len(list(tmp_path.glob("event-*"))) in (0, 3)
    assert (queue.lost, len(queue), taken(queue)) == (7, 3, [7, 8, 9])


@pytest.mark.reliability("F4")
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_the_bytes_of_what_waits_are_bounded_too(spooled: bool, tmp_path: Path) -> None:
    """The oldest are lost; one that is too large by itself is kept, as the newest always is."""
    queue = Queue(100, 10, tmp_path if spooled else None)
    for number, size in enumerate([4, 4, 2, 3, 11, 1]):
        queue.append(Event(str(number), "", "x" * size))
        kept = [int(event.key) for event, _ in queue._waiting]
        assert kept == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [4], [5]][number]
    assert (queue.lost, len(list(tmp_path.iterdir())) - spooled) == (5, spooled * 2)
    queue.close()


def test_an_event_that_was_delivered_after_all_is_not_lost(queue: Queue) -> None:
    """It made room while it was on its way."""
    event = filled(queue, 0).first()
    filled(queue, 1, 2, 3)
    assert queue.lost == 1
    queue.done(event)
    assert (queue.lost, taken(queue)) == (0, [1, 2, 3])


def test_what_is_left_is_there_for_the_next(tmp_path: Path) -> None:
    """From the first that was not sent on, as it was, in order, before what is new."""
    first = filled(Queue(20, ROOM, tmp_path), *range(12))
    events = [first.first(), *taken(first, 2)]
    first.close()
    second = filled(Queue(20, ROOM, tmp_path), 12)
    assert second.first() == Event("2", "", events[0].body)
    assert taken(second) == list(range(2, 13))
    assert list(tmp_path.glob("event-*")) == []


@pytest.mark.parametrize("content", [b"", b'{"key": "1", "kin', b"\xff", b"null", b"{}"])
def test_a_torn_event_is_passed_over(tmp_path: Path, content: bytes) -> None:
    """As a power cut leaves it: counted, deleted, and those around it are sent."""
    left = filled(Queue(10, ROOM, tmp_path), 0, 1, 2)
    left.close()
    sorted(tmp_path.glob("event-*"))[1].write_bytes(content)
    queue = filled(Queue(10, ROOM, tmp_path), 3)
    assert (taken(queue), queue.lost) == ([0, 2, 3], 1)
    assert list(tmp_path.glob("event-*")) == []


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def append_in_vain(queue: Queue, *numbers: int) -> None:
    for number in numbers:
        with full_disk(), pytest.raises(OSError, match="File too large"):
            filled(queue, number)


def test_a_full_disk_loses_nothing_that_memory_can_keep(tmp_path: Path) -> None:
    """It can be sent meanwhile, and is written when there is room."""
    queue = filled(Queue(10, ROOM, tmp_path), 0)
    append_in_vain(queue, 1, 2, 3)
    assert taken(queue, 2) == [0, 1]
    filled(queue, 4)
    queue.close()
    again = Queue(10, ROOM, tmp_path)
    assert (taken(again), again.lost) == ([2, 3, 4], 0)


def test_what_memory_cannot_keep_is_lost_and_counted(tmp_path: Path) -> None:
    """The oldest of it."""
    queue = Queue(2, ROOM, tmp_path)
    append_in_vain(queue, 0, 1, 2)
    filled(queue, 3)
    assert (taken(queue), queue.lost) == ([2, 3], 2)


def test_a_full_disk_to_the_end_counts_as_loss(tmp_path: Path) -> None:
    """Closing tries once more."""
    queue = filled(Queue(10, ROOM, tmp_path), 0)
    append_in_vain(queue, 1)
    with full_disk():
        queue.close()
    assert queue.lost == 1
