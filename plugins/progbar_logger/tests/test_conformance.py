"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestProgbarLogger(CallbackSuite):
    name = "progbar_logger"
    refused = ({"count_mode": "days"}, {"refresh_per_second": 0})
