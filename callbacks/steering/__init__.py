"""Callbacks that change the course of a run."""
