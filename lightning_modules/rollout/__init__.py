"""The sampling engine."""

from lightning_modules.rollout.engine import sample
from lightning_modules.rollout.sampling import Completions, Randomness, SamplingParams
from lightning_modules.rollout.shared import sample_shared

__all__ = ["Completions", "Randomness", "SamplingParams", "sample", "sample_shared"]
