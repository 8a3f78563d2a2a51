"""Callbacks that write what a run leaves: checkpoints, weights, logs, costs."""
