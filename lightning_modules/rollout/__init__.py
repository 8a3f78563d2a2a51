"""The sampling engine."""

from lightning_modules.rollout.engine import sample
from lightning_modules.rollout.sampling import Completions, Randomness, SamplingParams

__all__ = ["Completions", "Randomness", "SamplingParams", "sample"]
