"""The sampling engine."""

from lightning_modules.rollout.engine import sample
from lightning_modules.rollout.sampling import Completions, Randomness, SamplingParams, keyed_generator

__all__ = ["Completions", "Randomness", "SamplingParams", "keyed_generator", "sample"]
