"""How rates and remaining times are counted."""

from __future__ import annotations

from hookloop_progbar_logger._meter import Meter


def test_the_rate_is_that_of_lately_and_of_everything_at_the_end() -> None:
    """A slow first batch does not spoil the time left for the rest of the epoch."""
    meter = Meter(0.0, 200)
    for second in range(100):  # the first batch takes ten seconds, the others one
        meter.done = second + 1
        meter.mark(10.0 + second)

    assert meter.rate(109.0) == 1.0
    assert meter.left(109.0) == 100.0
    assert meter.rate(109.0, overall=True) == 100 / 109


def test_a_resumed_epoch_counts_only_what_it_did_itself() -> None:
    """900 batches of an earlier process are no speed of this one."""
    meter = Meter(0.0, 1000)
    meter.skip(900)
    meter.done = 910

    assert meter.rate(5.0) == 2.0
    assert meter.rate(5.0, overall=True) == 2.0
    assert meter.left(5.0) == 45.0


def test_a_pause_counts_for_the_time_and_not_for_the_rate() -> None:
    """Validation makes an epoch longer, not its training slower."""
    meter = Meter(0.0, 10)
    meter.done = 10
    meter.pause(5.0)

    assert meter.rate(7.0) == 2.0

    meter.go_on(8.0)

    assert meter.rate(8.0, overall=True) == 2.0
    assert meter.elapsed(8.0) == 8.0


def test_more_than_announced_makes_the_length_unknown() -> None:
    """A loader that said 3 and gives 4 gets no bar beyond its end."""
    meter = Meter(0.0, 3)
    meter.done = 4

    assert meter.total is None
    assert meter.left(1.0) is None
    assert str(meter) == "4"


def test_nothing_done_is_no_rate() -> None:
    """No division by nothing."""
    assert Meter(0.0, 3).rate(1.0) is None
    assert Meter(0.0, 3).left(1.0) is None
