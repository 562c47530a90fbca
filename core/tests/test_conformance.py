"""The two callbacks that every run has keep the promises of all others."""

from hookloop.testing import CallbackSuite


class TestBaseLogger(CallbackSuite):
    name = "base_logger"


class TestHistory(CallbackSuite):
    name = "history"
