"""Endless problems: contexts, structures, numbers, splits, mixtures."""
