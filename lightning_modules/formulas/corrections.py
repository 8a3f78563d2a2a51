"""Terms and weights beside the surrogate: where the sampler is not the trainer, and against a loss of entropy."""

from typing import Literal

import torch
from torch import Tensor


def sampler_weights(
    logp_old_NT: Tensor, logp_sampled_NT: Tensor, mask_NT: Tensor, *, level: Literal["token", "sequence"],
    mode: Literal["truncate", "mask"], most: float,
) -> Tensor:  # fmt: skip
    """Weights w = pi_old / mu, mu the sampler's probability: min(w, most), or w if w <= most, else 0.

    Truncated importance sampling (fengyao.notion.site/off-policy-rl) and its masked form (arXiv:2510.18855). Of a token, or of a
    sequence: exp sum_t log w_t on each of its tokens.

    Args:
        logp_old_NT: [N, T] log-probability of each sampled token in training before any update, nats.
        logp_sampled_NT: [N, T] according to the sampler.
        mask_NT: [N, T] bool, true where a token was sampled.
        level: "token" or "sequence".
        mode: "truncate" or "mask".
        most: largest weight, at least 1.

    Returns:
        [N, T], no gradient; 1 outside the mask if by token.
    """
    gap_NT = torch.where(mask_NT, logp_old_NT - logp_sampled_NT, 0.0).detach()
    if level == "sequence":
        gap_NT = gap_NT.sum(dim=1, keepdim=True).expand_as(gap_NT)
    weight_NT = gap_NT.exp()
    return weight_NT.clamp(max=most) if mode == "truncate" else torch.where(weight_NT <= most, weight_NT, 0.0)


def entropy_bonus(logp_NT: Tensor) -> Tensor:
    """-log pi(y)^2 / 2: its mean gradient over y ~ pi, -log pi grad log pi, is that of the entropy of pi.

    From the sampled tokens alone: no distribution over the vocabulary is kept, at the price of a noisier gradient. The value is
    not the entropy; -log pi is an estimate of that.

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.

    Returns:
        [N, T], nats squared, to be maximised.
    """
    return -logp_NT.square() / 2
