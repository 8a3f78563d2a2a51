"""Experiments of several stages, and the tables, figures and pages made from their files."""
