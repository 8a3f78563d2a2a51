"""Advantages: how much more a completion, a step or a token earns than its group, or than a critic expects; the critic's loss."""

import torch
from torch import Tensor


def group_advantages(rewards_BG: Tensor, *, eps: float = 1e-6, correction: int | None = 0) -> Tensor:
    """A_bg = (r_bg - mean_g r_b) / (std_g r_b + eps), the group as its own baseline (arXiv:2402.03300, 4.1.2).

    Args:
        rewards_BG: [B, G] float.
        eps: reward units; a row of equal rewards gives exactly 0.
        correction: std divides by G - correction: 0 is the population's, 1 the sample's; None: `centred_advantages`.

    Returns:
        [B, G], zero mean over G, no gradient.

    Raises:
        ValueError: G < 2.
    """
    centred_BG = centred_advantages(rewards_BG)
    if correction is None:
        return centred_BG
    variance_B1 = centred_BG.square().sum(dim=1, keepdim=True) / (rewards_BG.shape[1] - correction)
    return centred_BG / (variance_B1.sqrt() + eps)


def centred_advantages(rewards_BG: Tensor) -> Tensor:
    """A_bg = r_bg - mean_g r_b: problems weigh by the spread of their rewards (Dr. GRPO, arXiv:2503.20783, 3.2).

    Args:
        rewards_BG: [B, G] float.

    Returns:
        [B, G], zero mean over G, no gradient.

    Raises:
        ValueError: G < 2.
    """
    if rewards_BG.ndim != 2 or rewards_BG.shape[1] < 2:
        raise ValueError(
            f"group advantages: expected rewards [B, G>=2], got {tuple(rewards_BG.shape)}; "
            "raise `model.init_args.group.size` to at least 2."
        )
    # subtract the first reward: equal rewards then give exactly 0, without the rounding of a mean
    shifted_BG = (rewards_BG - rewards_BG[:, :1]).detach()
    return shifted_BG - shifted_BG.mean(dim=1, keepdim=True)


def leave_one_out_advantages(rewards_BG: Tensor) -> Tensor:
    """A_bg = r_bg - mean_{h != g} r_bh, a baseline that does not contain the sample itself (RLOO, arXiv:2402.14740, 2.3).

    Args:
        rewards_BG: [B, G] float.

    Returns:
        [B, G], no gradient; G / (G - 1) times the centred advantages.

    Raises:
        ValueError: G < 2.
    """
    centred_BG = centred_advantages(rewards_BG)
    return centred_BG * (rewards_BG.shape[1] / (rewards_BG.shape[1] - 1))


def maximum_likelihood_advantages(rewards_BG: Tensor) -> Tensor:
    """A_bg = (r_bg - mean_g r_b) / mean_g r_b: hard problems weigh more (MaxRL, arXiv:2602.02710).

    With rewards of 0 and 1, times grad log pi and averaged over the group, it is an unbiased gradient of sum_(k < G) pass@k / k,
    the first G - 1 terms of the series of log p, p being the probability of success.

    Args:
        rewards_BG: [B, G] float, at least 0.

    Returns:
        [B, G], zero mean over G, no gradient; 0 where all rewards are equal.

    Raises:
        ValueError: G < 2, or a negative reward, which has no likelihood.
    """
    centred_BG = centred_advantages(rewards_BG)
    if (rewards_BG < 0).any():
        raise ValueError(
            f"MaxRL divides by the mean reward, and a reward is {float(rewards_BG.min()):g}; leave out penalties, or take GRPO."
        )
    mean_B1 = rewards_BG.detach().mean(dim=1, keepdim=True)
    return torch.where(mean_B1 > 0, centred_BG / mean_B1, 0.0)


def step_advantages(
    reward_BGT: Tensor, ends_BGT: Tensor, *, discount: float = 1.0, eps: float = 1e-6, correction: int | None = 0
) -> Tensor:
    """A_t = sum over steps j that end at or after t of discount^(j - j(t)) (r_j - mean) / (std + eps).

    Mean and std are over all steps of the group; j(t) is the step of token t. With discount 1 these are the advantages of process
    supervision in GRPO (arXiv:2402.03300, 4.1.3); with 0 a token gets that of its own step alone. Where most steps earn little,
    more steps earn more than the mean, so a response gains by holding more of them; `node_advantages` has no such gain.

    Args:
        reward_BGT: [B, G, T] rewards of steps, at their last tokens.
        ends_BGT: [B, G, T] bool, true at the last token of a step.
        discount: of later steps, in [0, 1].
        eps: reward units; steps of equal rewards give exactly 0.
        correction: std divides by the number of steps - correction; None: no division by the std.

    Returns:
        [B, G, T], no gradient; 0 after the last step.
    """
    reward_BGT = reward_BGT.detach()
    # subtract the highest reward: equal rewards then give exactly 0, without the rounding of a mean
    highest_B11 = reward_BGT.masked_fill(~ends_BGT, -torch.inf).amax(dim=(1, 2), keepdim=True)
    shifted_BGT = torch.where(ends_BGT, reward_BGT - highest_B11, 0.0)
    count_B11 = ends_BGT.sum(dim=(1, 2), keepdim=True)
    centred_BGT = shifted_BGT - shifted_BGT.sum(dim=(1, 2), keepdim=True) / count_B11.clamp(min=1)
    centred_BGT = torch.where(ends_BGT, centred_BGT, 0.0)
    if correction is None:
        return _from_here_on(centred_BGT, ends_BGT, discount)
    variance_B11 = centred_BGT.square().sum(dim=(1, 2), keepdim=True) / (count_B11 - correction).clamp(min=1)
    return _from_here_on(centred_BGT / (variance_B11.sqrt() + eps), ends_BGT, discount)


def node_advantages(
    reward_BGK: Tensor, place_BGK: Tensor, length: int, *, discount: float = 1.0, eps: float = 1e-6, correction: int | None = 0
) -> Tensor:
    """A_t = sum over places j at or after t of discount^(j - j(t)) z_j,  z_gk = (r_gk - mean_g r_k) / (std_g r_k + eps).

    Reward k of a response is compared with reward k of the others alone, whatever else they hold. So a response that holds more
    changes no baseline, and one that loses reward k loses advantage at and before its place, and nowhere gains.

    Args:
        reward_BGK: [B, G, K]: reward number k is about the same thing in all of a group, say one quantity.
        place_BGK: [B, G, K] int64, the token of each; `length` for those to leave out.
        length: T.
        discount: of later places, in [0, 1]; rewards at one token have one place.
        eps: reward units; equal rewards give exactly 0.
        correction: std divides by G - correction; None: no division by the std.

    Returns:
        [B, G, T], no gradient; 0 after the last place.
    """
    (groups, size, count), (reward_BGK, place_BGK) = reward_BGK.shape, (reward_BGK.detach(), place_BGK.long())
    alike_BKG = group_advantages(reward_BGK.transpose(1, 2).reshape(-1, size), eps=eps, correction=correction)
    relative_BGK = alike_BKG.view(groups, count, size).transpose(1, 2)
    empty_BGT = reward_BGK.new_zeros(groups, size, length + 1)
    normal_BGT = empty_BGT.scatter_add(2, place_BGK, relative_BGK)[..., :length]
    ends_BGT = empty_BGT.scatter(2, place_BGK, 1.0)[..., :length] > 0
    return _from_here_on(normal_BGT, ends_BGT, discount)


def _from_here_on(normal_BGT: Tensor, ends_BGT: Tensor, discount: float) -> Tensor:
    """[B, G, T]: what is earned at the next end, plus `discount` times the same from there on."""
    advantage_BGT, later_BG = torch.zeros_like(normal_BGT), torch.zeros_like(normal_BGT[..., 0])
    for t in reversed(range(normal_BGT.shape[-1])):
        later_BG = torch.where(ends_BGT[..., t], normal_BGT[..., t] + discount * later_BG, later_BG)
        advantage_BGT[..., t] = later_BG
    return advantage_BGT


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
    """Mean and population variance from `moments`, up to a common factor; 0 of no terms."""
    count, total, squares = moments_3
    count = torch.where(count > 0, count, 1.0)
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
