"""Surrogates beside clipping: what a sampled token adds to the objective, and which tokens have no gradient.

All take logarithms in nats, [N, T], with gradient in log rho and log pi, and return [N, T] to be maximised.
"""

from typing import Literal

import torch
from torch import Tensor


def cispo_surrogate(log_ratio_NT: Tensor, logp_NT: Tensor, advantage_NT: Tensor, *, most: float) -> Tensor:
    """sg( min(rho, most) ) A log pi: the ratio is a bounded weight, and every token has a gradient (CISPO, arXiv:2506.13585).

    Args:
        log_ratio_NT: [N, T] log rho = log(pi / pi_old).
        logp_NT: [N, T] log pi of the sampled tokens, with gradient.
        advantage_NT: [N, T].
        most: bound of the ratio, 1 + epsilon_high in the paper.

    Returns:
        [N, T].
    """
    return log_ratio_NT.detach().exp().clamp(max=most) * advantage_NT * logp_NT


def sapo_surrogate(log_ratio_NT: Tensor, advantage_NT: Tensor, *, gain: float, loss: float) -> Tensor:
    """4 / tau sigmoid(tau (rho - 1)) A, tau = `gain` if A > 0 else `loss` (SAPO, arXiv:2511.20347).

    Its slope is A at rho = 1 and falls smoothly to 0 on both sides, faster for larger tau.

    Args:
        log_ratio_NT: [N, T] log rho, with gradient.
        advantage_NT: [N, T].
        gain: tau of tokens with positive advantage, above 0.
        loss: tau of the others, above 0.

    Returns:
        [N, T].
    """
    tau_NT = torch.where(advantage_NT > 0, gain, loss)
    return 4 / tau_NT * torch.sigmoid(tau_NT * (log_ratio_NT.exp() - 1)) * advantage_NT


def binary_divergence(logp_NT: Tensor, logp_old_NT: Tensor, *, kind: Literal["tv", "kl"]) -> Tensor:
    """Divergence of pi from pi_old on "the sampled token or another": |pi - pi_old|, or KL(pi_old || pi) (arXiv:2602.04879).

    A lower bound of that over the whole vocabulary, from two probabilities.

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats.
        logp_old_NT: [N, T] log pi_old of the same tokens.
        kind: "tv", total variation; "kl", nats.

    Returns:
        [N, T], at least 0, no gradient.
    """
    p_NT, old_NT = logp_NT.detach().double().exp(), logp_old_NT.detach().double().exp()
    if kind == "tv":
        return (p_NT - old_NT).abs().to(logp_NT.dtype)
    other_NT, other_old_NT = ((1 - x).clamp(min=1e-12) for x in (p_NT, old_NT))
    kl_NT = old_NT * (logp_old_NT - logp_NT).detach() + other_old_NT * (other_old_NT / other_NT).log()
    return kl_NT.clamp(min=0).to(logp_NT.dtype)


def strays(log_ratio_NT: Tensor, advantage_NT: Tensor, divergence_NT: Tensor, *, bound: float) -> Tensor:
    """[N, T] bool: rho is on the side to which A pushes, and the divergence exceeds `bound` (DPPO, arXiv:2602.04879)."""
    away_NT = log_ratio_NT * advantage_NT > 0
    return away_NT & (divergence_NT > bound)


def covariance_terms(logp_NT: Tensor, advantage_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """(log pi - mean log pi) (A - mean A), means over the mask: its mean drives the entropy down (arXiv:2505.22617).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats.
        advantage_NT: [N, T].
        mask_NT: [N, T] bool, true where a token was sampled.

    Returns:
        [N, T], no gradient; -inf outside the mask.
    """
    logp_NT, advantage_NT = logp_NT.detach(), advantage_NT.detach()
    spread_NT = (logp_NT - logp_NT[mask_NT].mean()) * (advantage_NT - advantage_NT[mask_NT].mean())
    return torch.where(mask_NT, spread_NT, -torch.inf)


def drawn_within(covariance_NT: Tensor, *, count: int, low: float, high: float) -> Tensor:
    """[N, T] bool: up to `count` tokens drawn from those of covariance between `low` and `high` (Clip-Cov, arXiv:2505.22617)."""
    within = ((covariance_NT > low) & (covariance_NT < high)).flatten().nonzero().squeeze(1)
    drawn = within[torch.randperm(len(within)).to(within.device)[:count]]
    return torch.zeros_like(covariance_NT, dtype=torch.bool).flatten().index_fill(0, drawn, 1).view_as(covariance_NT)


def highest(covariance_NT: Tensor, *, count: int) -> Tensor:
    """[N, T] bool: the `count` tokens of highest covariance (KL-Cov, arXiv:2505.22617)."""
    chosen = covariance_NT.flatten().topk(count).indices
    return torch.zeros_like(covariance_NT, dtype=torch.bool).flatten().index_fill(0, chosen, 1).view_as(covariance_NT)
