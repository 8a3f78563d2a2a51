"""Formulas of reinforcement learning as pure functions: tensors in, tensors out."""

from lightning_modules.formulas.advantages import (
    centred_advantages,
    clipped_value_loss,
    explained_variance,
    generalised_advantages,
    group_advantages,
    leave_one_out_advantages,
    maximum_likelihood_advantages,
    mean_and_variance,
    moments,
    node_advantages,
    step_advantages,
)
from lightning_modules.formulas.best_of_k import best_of_k_advantages, marginal_advantages
from lightning_modules.formulas.corrections import entropy_bonus, sampler_weights
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
from lightning_modules.formulas.surrogates import (
    binary_divergence,
    cispo_surrogate,
    covariance_terms,
    drawn_within,
    highest,
    sapo_surrogate,
    strays,
)

__all__ = [
    "adapted_weight", "best_of_k_advantages", "binary_divergence", "centred_advantages", "cispo_surrogate", "clipped_surrogate",
    "clipped_tokens", "clipped_value_loss", "constant_length_mean", "covariance_terms", "drawn_within", "entropy_bonus",
    "explained_variance", "generalised_advantages", "group_advantages", "highest", "kl_k1", "kl_k2", "kl_k3",
    "leave_one_out_advantages", "marginal_advantages", "maximum_likelihood_advantages", "mean_and_variance", "moments",
    "node_advantages", "sampler_weights", "sapo_surrogate", "sequence_log_ratio", "sequence_mean", "sequence_token_log_ratio",
    "step_advantages", "strays", "token_log_ratio", "token_mean", "with_kl_gradient",
]  # fmt: skip
