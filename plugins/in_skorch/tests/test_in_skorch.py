"""Callbacks of hookloop in skorch."""
