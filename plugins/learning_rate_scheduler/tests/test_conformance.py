"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestLearningRateScheduler(CallbackSuite):
    name = "learning_rate_scheduler"
    settings = {"schedule": "step:step_size=1,gamma=0.5"}
    refused = ({"schedule": "stairs"}, {"schedule": 0.1})
