"""Formulas of reinforcement learning as pure functions: tensors in, tensors out."""

from lightning_modules.algorithms.advantages import group_advantages
from lightning_modules.algorithms.kl import kl_k3
from lightning_modules.algorithms.means import token_mean
from lightning_modules.algorithms.surrogate import clipped_surrogate

__all__ = ["clipped_surrogate", "group_advantages", "kl_k3", "token_mean"]
