"""Optimisers."""

from lightning_modules.optimizers.factories import AdamW, Chained, Muon, OptimizerFactory, number_by_model

__all__ = ["AdamW", "Chained", "Muon", "OptimizerFactory", "number_by_model"]
