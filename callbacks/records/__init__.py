"""Callbacks that keep what a run leaves."""
