"""What every callback of hookloop promises, checked by hookloop's own kit."""

from __future__ import annotations

from typing import ClassVar

from hookloop.testing import CallbackSuite


class TestBestMetric(CallbackSuite):
    """Every check of the kit is a test here."""

    name = "best_metric"
    settings: ClassVar[dict[str, str]] = {"monitor": "loss"}
    refused = ({"mode": "sideways"},)
