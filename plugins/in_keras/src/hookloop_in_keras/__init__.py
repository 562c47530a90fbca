"""hookloop in Keras 3 on torch."""

__version__ = "0.1.0"
