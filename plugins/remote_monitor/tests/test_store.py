"""Where events wait: order, bounds, and what survives."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hookloop_remote_monitor._event import Event
from hookloop_remote_monitor._memory import Memory
from hookloop_remote_monitor._spool import CURSOR, OFTEN, Spool

LINE = len(Event("00", "", "").line())


def events(*numbers: int) -> list[Event]:
    return [Event(f"{number:02d}", "", "") for number in numbers]


def spool(folder: Path, limit: int = 10_000_000, kept: int = 100) -> Spool:
    return Spool(folder, limit, kept)


def filled(store: Memory | Spool, *numbers: int) -> Memory | Spool:
    for event in events(*numbers):
        store.append(event)
    return store


def taken(store: Memory | Spool, count: int = 1_000_000) -> list[int]:
    keys = []
    while len(keys) < count and (found := store.first()) is not None:
        number, event = found
        keys.append(int(event.key))
        store.done(number)
    return keys


@pytest.fixture(params=["memory", "spool"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Memory | Spool:
    """Either kind, with room for three events."""
    return Memory(3) if request.param == "memory" else spool(tmp_path, 3 * LINE)


def test_events_leave_in_the_order_in_which_they_came(store: Memory | Spool) -> None:
    """Also if some come meanwhile."""
    filled(store, 0, 1)
    assert taken(store, 1) == [0]
    filled(store, 2, 3)
    assert (len(store), taken(store), len(store), store.lost) == (3, [1, 2, 3], 0, 0)


def test_an_event_stays_until_it_is_done(store: Memory | Spool) -> None:
    """Looking at it twice gives it twice."""
    filled(store, 0, 1)
    assert store.first() == store.first() == (1, events(0)[0])


def test_beyond_the_bound_the_oldest_are_lost_and_counted(store: Memory | Spool) -> None:
    """What is newest is of most interest."""
    filled(store, *range(10))
    assert (store.lost, len(store), taken(store)) == (7, 3, [7, 8, 9])


def test_an_event_that_was_delivered_after_all_is_not_lost(store: Memory | Spool) -> None:
    """It made room while it was on its way."""
    filled(store, 0)
    number, _ = store.first() or (0, None)
    filled(store, 1, 2, 3)
    assert store.lost == 1
    store.done(number)
    assert (store.lost, taken(store)) == (0, [1, 2, 3])


def test_what_is_left_is_there_for_the_next(tmp_path: Path) -> None:
    """From the first that was not sent on, in order, before what is new."""
    first = filled(spool(tmp_path), 0, 1, 2, 3)
    assert taken(first, 2) == [0, 1]
    first.close()
    second = filled(spool(tmp_path), 4)
    assert (len(second), taken(second)) == (3, [2, 3, 4])


def test_what_was_written_survives_a_process_that_closes_nothing(tmp_path: Path) -> None:
    """A line is with the system as soon as it is written."""
    filled(spool(tmp_path), 0, 1)
    assert taken(spool(tmp_path)) == [0, 1]


def test_an_empty_spool_leaves_no_events_behind(tmp_path: Path) -> None:
    """Only its cursor."""
    store = filled(spool(tmp_path), 0, 1)
    taken(store)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [CURSOR]


def test_the_bound_holds_on_disk(tmp_path: Path) -> None:
    """Counted in bytes of all files of events, while nothing is sent at all."""
    filled(spool(tmp_path, 100 * LINE), *range(100), *range(100), *range(100))
    sizes = [path.stat().st_size for path in tmp_path.glob("events-*")]
    assert 90 * LINE <= sum(sizes) <= 100 * LINE


def test_an_event_larger_than_the_bound_is_lost_at_once(tmp_path: Path) -> None:
    """And takes nothing with it."""
    store = filled(spool(tmp_path, 3 * LINE), 0)
    store.append(Event("1", "", "x" * 1000))
    assert (store.lost, taken(store)) == (1, [0])


def test_files_of_sent_events_are_deleted_on_the_way(tmp_path: Path) -> None:
    """A spool that never runs empty does not grow."""
    store = filled(spool(tmp_path, 64 * LINE), *range(40))
    taken(store, 39)
    assert len(list(tmp_path.glob("events-*"))) == 1


@pytest.mark.parametrize("tail", [b"{", b'{"key": "02", "kind": "", "bo'])
def test_a_torn_last_line_was_never_kept(tmp_path: Path, tail: bytes) -> None:
    """What a power cut leaves is passed over, without a loss of others."""
    filled(spool(tmp_path), 0, 1)
    with next(tmp_path.glob("events-*")).open("ab") as file:
        file.write(tail)
    store = filled(spool(tmp_path), 5, 6)
    assert (taken(store), store.lost) == ([0, 1, 5, 6], 0)


def test_a_damaged_line_is_lost_alone(tmp_path: Path) -> None:
    """It is counted, and those after it are sent."""
    filled(spool(tmp_path), 0, 1, 2)
    path = next(tmp_path.glob("events-*"))
    path.write_bytes(path.read_bytes().replace(b'"01"', b'\xff"1"'))
    store = spool(tmp_path)
    assert (taken(store), store.lost) == ([0, 2], 1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sent": "x"}', b'{"sent": null}'])
def test_without_a_readable_cursor_all_is_sent_again(tmp_path: Path, content: bytes) -> None:
    """Rather twice than not at all."""
    store = filled(spool(tmp_path), 0, 1, 2)
    taken(store, 1)
    store.close()
    (tmp_path / CURSOR).write_bytes(content)
    assert taken(spool(tmp_path)) == [0, 1, 2]


def test_the_cursor_is_written_from_time_to_time(tmp_path: Path) -> None:
    """A process that is killed has the next send at most so many events again."""
    store = filled(spool(tmp_path), *range(99))
    taken(store, 70)
    assert taken(spool(tmp_path))[0] == 70 // OFTEN * OFTEN


def test_who_has_left_the_spool_moves_nothing(tmp_path: Path) -> None:
    """A request that is answered too late is somebody else's business."""
    store = filled(spool(tmp_path), 0, 1)
    number, _ = store.first() or (0, None)
    store.close()
    store.done(number)
    assert taken(spool(tmp_path)) == [0, 1]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_nothing_that_memory_can_keep(tmp_path: Path) -> None:
    """A line that was torn by it is written again, whole, and in its place."""
    store = filled(spool(tmp_path), 0)
    with full_disk(LINE * 3 // 2):
        for event in events(1, 2):
            with pytest.raises(OSError, match="No space left"):
                store.append(event)
            store_is = [event.key for _, event in filter(None, [store.first()])]
            assert store_is == ["00"]
    filled(store, 3)
    assert (taken(store), store.lost) == ([0, 1, 2, 3], 0)


def test_what_memory_cannot_keep_is_lost_and_counted(tmp_path: Path) -> None:
    """The oldest of it."""
    store = filled(spool(tmp_path, kept=2), 0)
    with full_disk(0):
        for event in events(1, 2, 3):
            with pytest.raises(OSError, match="File too large"):
                store.append(event)
    filled(store, 4)
    assert (taken(store), store.lost) == ([0, 3, 4], 2)


def test_a_full_disk_to_the_end_counts_as_loss(tmp_path: Path) -> None:
    """Closing tries once more."""
    store = filled(spool(tmp_path), 0)
    with full_disk(0):
        with pytest.raises(OSError, match="File too large"):
            store.append(events(1)[0])
        store.close()
    assert store.lost == 1
