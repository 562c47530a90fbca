"""What every callback of hookloop promises, checked by hookloop's own kit."""

from __future__ import annotations

from typing import ClassVar

from hookloop.testing import CallbackSuite


class TestCheckpointCopier(CallbackSuite):
    """Every check of the kit is a test here."""

    name = "checkpoint_copier"
    settings: ClassVar[dict[str, str]] = {"folder": "{tmp}/copies"}
    refused = ({"folder": ""},)
