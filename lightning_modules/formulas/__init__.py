"""Formulas of reinforcement learning as pure functions: tensors in, tensors out."""

from lightning_modules.formulas.advantages import (
    centred_advantages,
    clipped_value_loss,
    explained_variance,
    generalised_advantages,
    group_advantages,
    leave_one_out_advantages,
    mean_and_variance,
    moments,
    node_advantages,
    step_advantages,
)
from lightning_modules.formulas.kl import adapted_weight, kl_k1, kl_k2, kl_k3, with_kl_gradient
from lightning_modules.formulas.policy_loss import (
    clipped_surrogate,
    clipped_tokens,
    constant_length_mean,
    sequence_log_ratio,
    sequence_mean,
    sequence_token_log_ratio,
    token_log_ratio,
    token_mean,
)

__all__ = [
    "adapted_weight", "centred_advantages", "clipped_surrogate", "clipped_tokens", "clipped_value_loss", "constant_length_mean",
    "explained_variance", "generalised_advantages", "group_advantages", "kl_k1", "kl_k2", "kl_k3", "leave_one_out_advantages",
    "mean_and_variance", "moments", "node_advantages", "sequence_log_ratio", "sequence_mean", "sequence_token_log_ratio",
    "step_advantages", "token_log_ratio", "token_mean", "with_kl_gradient",
]  # fmt: skip
