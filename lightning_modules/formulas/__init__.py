"""Formulas of reinforcement learning as pure functions: tensors in, tensors out."""

from lightning_modules.formulas.advantages import centred_advantages, group_advantages, leave_one_out_advantages, step_advantages
from lightning_modules.formulas.kl import adapted_weight, kl_k1, kl_k2, kl_k3, with_kl_gradient
from lightning_modules.formulas.means import constant_length_mean, sequence_mean, token_mean
from lightning_modules.formulas.returns import (
    clipped_value_loss,
    explained_variance,
    generalised_advantages,
    mean_and_variance,
    moments,
)
from lightning_modules.formulas.surrogate import (
    clipped_surrogate,
    clipped_tokens,
    sequence_log_ratio,
    sequence_token_log_ratio,
    token_log_ratio,
)

__all__ = [
    "adapted_weight", "centred_advantages", "clipped_surrogate", "clipped_tokens", "clipped_value_loss", "constant_length_mean",
    "explained_variance", "generalised_advantages", "group_advantages", "kl_k1", "kl_k2", "kl_k3", "leave_one_out_advantages",
    "mean_and_variance", "moments", "sequence_log_ratio", "sequence_mean", "sequence_token_log_ratio", "step_advantages",
    "token_log_ratio", "token_mean", "with_kl_gradient",
]  # fmt: skip
