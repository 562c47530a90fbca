"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestLambdaCallback(CallbackSuite):
    name = "lambda_callback"
    settings = {"on_epoch_end": print, "on_batch_end": print}  # functions that can be pickled
    refused = ({"on_epoch_ends": print}, {"on_epoch_end": 3})
