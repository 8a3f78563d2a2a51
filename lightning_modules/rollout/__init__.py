"""The sampling engine."""

from lightning_modules.rollout.engine import chosen_engine, release, sample
from lightning_modules.rollout.sampling import Completions, Randomness, SamplingParams

__all__ = ["Completions", "Randomness", "SamplingParams", "chosen_engine", "release", "sample"]
