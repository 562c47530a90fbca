"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestEarlyStopping(CallbackSuite):
    name = "early_stopping"
    settings = {"patience": 1, "restore_best_weights": True}
    refused = ({"patience": -1}, {"mode": "upwards"}, {"start_from_epoch": -1})
