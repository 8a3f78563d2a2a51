"""Callbacks that watch a run and log what they see."""
