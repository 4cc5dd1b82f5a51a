"""Executors call the model that was chosen; each vendor has its own module."""
