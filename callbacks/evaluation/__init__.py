"""Callbacks that keep what an evaluation finds."""
