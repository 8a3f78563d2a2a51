"""Callbacks that change what a run does: its problems, its length."""
