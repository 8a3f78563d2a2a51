"""The sampling engine."""

from lightning_modules.rollout.engine import Completions, SamplingParams, sample
from lightning_modules.rollout.shared import sample_shared

__all__ = ["Completions", "SamplingParams", "sample", "sample_shared"]
