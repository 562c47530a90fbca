"""Callbacks of hookloop in Hugging Face's Trainer."""
