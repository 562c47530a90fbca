"""Callbacks of hookloop in Lightning."""
