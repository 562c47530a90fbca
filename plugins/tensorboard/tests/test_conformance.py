"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestTensorBoard(CallbackSuite):
    name = "tensorboard"
    settings = {"log_dir": "{tmp}/logs", "histogram_freq": 0}
    refused = ({"update_freq": "day"}, {"histogram_freq": -1})
    expected_failures = {
        "runs_twice": "a second run goes on where the axes of the first ended, as in Keras",
    }
