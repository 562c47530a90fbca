"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestRemoteMonitor(CallbackSuite):
    name = "remote_monitor"
    settings = {"root": "http://127.0.0.1:9", "flush_timeout": 0.0}  # nobody is there
    refused = ({"timeout": 0}, {"queue_size": 0})
