"""`compute_score` for verl, which loads a reward by the path of its file (docs/elsewhere.md)."""

from interplay.grammar.adapters import compute_score

__all__ = ["compute_score"]
