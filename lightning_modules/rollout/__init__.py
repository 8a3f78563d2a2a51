"""The sampling engine."""

from lightning_modules.rollout.engine import Completions, SamplingParams, sample

__all__ = ["Completions", "SamplingParams", "sample"]
