"""A model that learns from its own verified solutions."""
