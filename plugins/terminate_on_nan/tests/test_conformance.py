"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestTerminateOnNaN(CallbackSuite):
    name = "terminate_on_nan"
    settings = {"metrics": ["mae"]}
    refused = ({"metrics": [1]},)
