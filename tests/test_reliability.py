"""docs/reliability.md: each promise has a test, or the reason why it has none."""

from __future__ import annotations

import promises


def test_every_promise_is_tested_or_says_why_it_is_not() -> None:
    """And none is both."""
    made = {one for ids in promises.promises().values() for one in ids}
    kept, untested = set(promises.kept()), set(promises.untested())

    assert len(made) == 91
    assert made - kept - untested == set()
    assert kept & untested == set()


def test_marks_name_promises_that_are_made() -> None:
    """A mark with an id that nobody promised would prove nothing."""
    made = {one for ids in promises.promises().values() for one in ids}

    assert set(promises.kept()) - made == set()
    assert set(promises.untested()) - made == set()
