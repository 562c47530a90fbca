"""What every callback of hookloop promises, checked by hookloop's own kit."""

from __future__ import annotations

from typing import Any, ClassVar

from hookloop.testing import CallbackSuite


class TestCheckpointCopier(CallbackSuite):
    """Each check is a test of this class: see hookloop's page on testing a plugin."""

    name = "checkpoint_copier"
    settings: ClassVar[dict[str, Any]] = {}
