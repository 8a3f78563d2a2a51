"""Advantages: how much better a completion, or a step of it, is than its group."""

import torch
from torch import Tensor


def group_advantages(rewards_BG: Tensor, *, eps: float = 1e-6, correction: int = 0) -> Tensor:
    """A_bg = (r_bg - mean_g r_b) / (std_g r_b + eps), the group as its own baseline (arXiv:2402.03300, 4.1.2).

    Args:
        rewards_BG: [B, G] float.
        eps: reward units; a row of equal rewards gives exactly 0.
        correction: std divides by G - correction: 0 is the population's, 1 the sample's.

    Returns:
        [B, G], zero mean over G, no gradient.

    Raises:
        ValueError: G < 2.
    """
    centred_BG = centred_advantages(rewards_BG)
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


def step_advantages(
    reward_BGT: Tensor, ends_BGT: Tensor, *, discount: float = 1.0, eps: float = 1e-6, correction: int = 0
) -> Tensor:
    """A_t = sum over steps j that end at or after t of discount^(j - j(t)) (r_j - mean) / (std + eps).

    Mean and std are over all steps of the group; j(t) is the step of token t. With discount 1 these are the advantages of process
    supervision in GRPO (arXiv:2402.03300, 4.1.3); with 0 a token gets that of its own step alone.

    Args:
        reward_BGT: [B, G, T] rewards of steps, at their last tokens.
        ends_BGT: [B, G, T] bool, true at the last token of a step.
        discount: of later steps, in [0, 1].
        eps: reward units; steps of equal rewards give exactly 0.
        correction: std divides by the number of steps - correction.

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
    variance_B11 = centred_BGT.square().sum(dim=(1, 2), keepdim=True) / (count_B11 - correction).clamp(min=1)
    normal_BGT = centred_BGT / (variance_B11.sqrt() + eps)
    advantage_BGT, later_BG = torch.zeros_like(reward_BGT), torch.zeros_like(reward_BGT[..., 0])
    for t in reversed(range(reward_BGT.shape[-1])):
        later_BG = torch.where(ends_BGT[..., t], normal_BGT[..., t] + discount * later_BG, later_BG)
        advantage_BGT[..., t] = later_BG
    return advantage_BGT
