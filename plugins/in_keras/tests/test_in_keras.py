"""Callbacks of hookloop in Keras 3 on torch."""
