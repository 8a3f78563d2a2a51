"""Experiments of several stages: run them in order, then draw tables and curves from the files they left."""
