"""Advantages: how much better a completion is than its group."""

from torch import Tensor


def group_advantages(rewards_BG: Tensor, *, eps: float = 1e-6, correction: int = 0) -> Tensor:
    """A_bg = (r_bg - mean_g r_b) / (std_g r_b + eps), the group being its own baseline (arXiv:2402.03300, 4.1.2).

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
    """A_bg = r_bg - mean_g r_b: easy and hard problems weigh by their own spread (Dr. GRPO, arXiv:2503.20783, 3.2).

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
            "raise `model.init_args.group_size` to at least 2."
        )
    # the first reward is taken off beforehand: equal rewards then differ by exactly 0, whatever the rounding of a mean
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
