"""hookloop in skorch."""

__version__ = "0.1.0"
