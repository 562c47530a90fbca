"""When an event is sent again."""

from __future__ import annotations

import pytest
from hookloop_remote_monitor._pace import Pace, judged, wait


@pytest.mark.parametrize(
    ("status", "delivered", "again"),
    [
        *[(status, True, False) for status in (200, 201, 202, 204)],
        *[(status, False, True) for status in (408, 429, 500, 502, 503, 504, 599)],
        *[(status, False, False) for status in (301, 302, 307, 400, 401, 403, 404, 410, 413, 422)],
    ],
)
def test_the_status_decides(status: int, delivered: bool, again: bool) -> None:
    """What may pass is sent again; what will not is dropped, and said with its status."""
    answer = judged(status, None)
    assert (answer.problem is None, answer.again) == (delivered, again)
    assert delivered or str(status) in str(answer.problem)


NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("86400", 300.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("Wed, 15 Nov 2023 22:13:20 GMT", 300.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, 300.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(asked: str | None, seconds: float | None) -> None:
    """At most five minutes; nonsense is as if nothing had been asked."""
    assert wait(asked, lambda: NOW) == seconds


def test_retry_after_counts_only_where_sending_again_does() -> None:
    """A 429 with it says when."""
    assert judged(429, "7").after == 7.0
    assert judged(404, "7").after is None


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
    pace = Pace(1.0, 60.0, lambda: chance)
    assert [pace.delay(failures) for failures in range(1, 9)] == delays


def test_many_failures_overflow_nothing() -> None:
    """A server may be dead for weeks."""
    assert Pace(1.0, 60.0, lambda: 1.0).delay(100_000) == 60.0


@pytest.mark.parametrize(("asked", "delay"), [(7.0, 7.0), (120.0, 120.0), (0.0, 0.5)])
def test_what_the_server_asks_for_is_kept_to(asked: float, delay: float) -> None:
    """Also if it is longer than the longest wait; never without a pause."""
    assert Pace(1.0, 60.0, lambda: 0.0).delay(9, asked) == delay


def test_the_random_numbers_of_the_run_stay_as_they_are() -> None:
    """An observer draws none of them."""
    import random

    before = random.getstate()
    Pace(1.0, 60.0).delay(3)
    assert random.getstate() == before
