"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestSwapEMAWeights(CallbackSuite):
    name = "swap_ema_weights"
    settings = {"swap_on_epoch": True, "for_checkpoints": True}
    refused = ({"decay": 1.5}, {"update_every": 0})
