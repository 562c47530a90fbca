"""hookloop in Hugging Face's Trainer."""

__version__ = "0.1.0"
