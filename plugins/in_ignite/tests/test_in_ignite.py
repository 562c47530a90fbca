"""Callbacks of hookloop in Ignite."""
