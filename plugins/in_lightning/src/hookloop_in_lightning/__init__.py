"""hookloop in Lightning."""

__version__ = "0.1.0"
