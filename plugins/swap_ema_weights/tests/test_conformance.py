"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestSwapEMAWeights(CallbackSuite):
    name = "swap_ema_weights"
    settings = {"swap_on_epoch": True, "for_checkpoints": True}
    refused = ({"decay": 1.5}, {"update_every": 0})
    expected_failures = {
        "batch_hooks_read_nothing": "torch's AveragedModel looks at its count, which is on the CPU",
    }
