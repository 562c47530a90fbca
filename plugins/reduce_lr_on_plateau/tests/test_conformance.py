"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestReduceLROnPlateau(CallbackSuite):
    name = "reduce_lr_on_plateau"
    settings = {"patience": 1, "min_delta": 10.0}
    refused = ({"factor": 1.0}, {"patience": -1}, {"mode": "upwards"})
