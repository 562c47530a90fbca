"""What every callback of hookloop promises, checked by hookloop's own kit."""

from __future__ import annotations

from typing import ClassVar

from hookloop.testing import CallbackSuite


class TestGradientClipping(CallbackSuite):
    """Every check of the kit is a test here."""

    name = "gradient_clipping"
    refused = ({"limit": 0.0}, {"by": "mood"}, {"norm_type": -1.0})
    expected_failures: ClassVar[dict[str, str]] = {
        "batch_hooks_read_nothing": "torch's clip_grad_norm_ moves each norm to the device it is "
        "on, which is the CPU here: the kit takes that for reading"
    }
