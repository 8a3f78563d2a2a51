"""Callbacks that log and store the results of an evaluation."""
