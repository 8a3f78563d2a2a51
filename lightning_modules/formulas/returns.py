"""Advantages relative to a critic's values, the critic's loss, and how well its values explain returns."""

import torch
from torch import Tensor


def generalised_advantages(
    reward_NT: Tensor, value_NT: Tensor, mask_NT: Tensor, *, discount: float = 1.0, decay: float = 0.95
) -> Tensor:
    """A_t = sum_l (discount decay)^l delta_(t+l), delta_t = r_t + discount V_(t+1) - V_t (GAE, arXiv:1506.02438, eq. 16).

    Args:
        reward_NT: [N, T] reward of each sampled token.
        value_NT: [N, T] expected return before each sampled token; 0 after the last.
        mask_NT: [N, T] bool, true at sampled tokens, which are contiguous.
        discount: of later rewards.
        decay: lambda; 0: one step of lookahead, 1: all steps.

    Returns:
        [N, T], 0 outside the mask, no gradient; advantage plus value is the target of the critic.
    """
    reward_NT, value_NT = reward_NT.detach(), value_NT.detach()
    advantage_NT = torch.zeros_like(value_NT)
    later_N = next_N = torch.zeros_like(value_NT[:, 0])
    for t in reversed(range(value_NT.shape[1])):
        real_N = mask_NT[:, t]
        delta_N = reward_NT[:, t] + discount * next_N - value_NT[:, t]
        later_N = torch.where(real_N, delta_N + discount * decay * later_N, 0.0)
        next_N = torch.where(real_N, value_NT[:, t], 0.0)
        advantage_NT[:, t] = later_N
    return advantage_NT


def clipped_value_loss(value_NT: Tensor, value_old_NT: Tensor, return_NT: Tensor, *, clip: float | None) -> Tensor:
    """1/2 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2): no gain from moving far from the old value.

    The value loss of PPO's reference implementation (arXiv:2005.12729, 3).

    Args:
        value_NT: [N, T] with gradient.
        value_old_NT: [N, T] at the rollout.
        return_NT: [N, T] targets.
        clip: reward units; None: no clipping.

    Returns:
        [N, T], to be minimised.
    """
    square_NT = (value_NT - return_NT).square()
    if clip is None:
        return square_NT / 2
    near_NT = value_old_NT + (value_NT - value_old_NT).clamp(-clip, clip)
    return torch.maximum(square_NT, (near_NT - return_NT).square()) / 2


def moments(terms_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """[3] count, sum and sum of squares of the terms in the mask, float64; additive over batches."""
    kept = torch.where(mask_NT, terms_NT, 0.0).double()
    return torch.stack([mask_NT.sum().double(), kept.sum(), kept.square().sum()])


def mean_and_variance(moments_3: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance from `moments`, up to a common factor."""
    count, total, squares = moments_3
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0)


def explained_variance(returns_3: Tensor, errors_3: Tensor) -> Tensor:
    """1 - Var(R - V) / Var(R): 1 for a perfect critic, 0 for a constant one; nan if all returns are equal.

    Args:
        returns_3: `moments` of the returns R.
        errors_3: `moments` of R - V.
    """
    variance = mean_and_variance(returns_3)[1]
    return torch.where(variance > 0, 1 - mean_and_variance(errors_3)[1] / variance, torch.nan)
