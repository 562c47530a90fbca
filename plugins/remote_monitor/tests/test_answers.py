"""When an event is sent again."""

from __future__ import annotations

import pytest
from hookloop_remote_monitor._sender import delay, judged

BACKOFF = (1.0, 60.0)


@pytest.mark.reliability("F7")
@pytest.mark.parametrize(
    ("status", "delivered", "again"),
    [
        *[(status, True, False) for status in (200, 201, 204)],
        *[(status, False, True) for status in (408, 429, 500, 503, 599)],
        *[(status, False, False) for status in (301, 307, 400, 401, 404, 413, 422)],
    ],
)
def test_the_status_decides(status: int, delivered: bool, again: bool) -> None:
    """What may pass is sent again; what will not is dropped, and said with its status."""
    answer = judged(status, "7")
    assert (answer.problem is None, answer.again) == (delivered, again)
    assert delivered or str(status) in str(answer.problem)
    assert answer.after == (7.0 if again else None)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, None),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("86400", 300.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300.0),
        ("soon", None),
        ("Tue, 14 Nov 99999 22:00:00 GMT", None),
        pytest.param("9" * 5000, None, id="too long"),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(asked: str | None, seconds: float | None) -> None:
    """At most five minutes; nonsense is as if nothing had been asked."""
    assert judged(503, asked).after == seconds


@pytest.mark.reliability("F7")
@pytest.mark.parametrize(
    ("chance", "delays"),
    [
        (0.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (0.5, [0.75, 1.5, 3, 6, 12, 24, 45, 45]),
        (1.0, [1, 2, 4, 8, 16, 32, 60, 60]),
    ],
)
def test_waits_double_up_to_the_longest(chance: float, delays: list[float]) -> None:
    """From half of it to all of it, at random, so that many runs do not come back at once."""
    assert [delay(failures, None, BACKOFF, chance) for failures in range(1, 9)] == delays


def test_many_failures_overflow_nothing() -> None:
    """A server may be dead for weeks."""
    assert delay(100_000, None, BACKOFF, 1.0) == 60.0


@pytest.mark.parametrize(("asked", "seconds"), [(7.0, 7.0), (120.0, 120.0), (0.0, 0.5)])
def test_what_the_server_asks_for_is_kept_to(asked: float, seconds: float) -> None:
    """Also if it is longer than the longest wait; never without a pause."""
    assert delay(9, asked, BACKOFF, 0.0) == seconds
