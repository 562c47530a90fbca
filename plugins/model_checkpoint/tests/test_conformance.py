"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestModelCheckpoint(CallbackSuite):
    name = "model_checkpoint"
    settings = {"filepath": "{tmp}/{epoch}.pt"}
    refused = ({"filepath": "{epoch"}, {"save_freq": 0}, {"keep_last": 0})
