"""Results compared with claims, and pages of docs/ that are regenerated from runs."""
