"""What every callback of hookloop promises, checked by hookloop's own kit."""

from __future__ import annotations

from hookloop.testing import CallbackSuite


class TestThroughput(CallbackSuite):
    """Every check of the kit is a test here."""

    name = "throughput"
    refused = ({"warm_up": -1},)
