"""Recipes as written and as planned: stages, arms and their cost, before anything runs."""
