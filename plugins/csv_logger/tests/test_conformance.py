"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestCSVLogger(CallbackSuite):
    name = "csv_logger"
    settings = {"filename": "{tmp}/log.csv"}
    refused = ({"separator": "ab"}, {"separator": ""})
