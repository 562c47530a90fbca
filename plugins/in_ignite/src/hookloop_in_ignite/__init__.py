"""hookloop in Ignite."""

__version__ = "0.1.0"
