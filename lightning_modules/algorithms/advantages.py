"""Advantages: how much better a completion is than its group."""

from torch import Tensor


def group_advantages(rewards_BG: Tensor, *, eps: float = 1e-6) -> Tensor:
    """A_bg = (r_bg - mean_g r_b) / (std_g r_b + eps), the group being its own baseline (arXiv:2402.03300, 4.1.2).

    Args:
        rewards_BG: [B, G] float.
        eps: reward units; a row of equal rewards gives exactly 0.

    Returns:
        [B, G], zero mean over G, population std (1/G), no gradient.

    Raises:
        ValueError: G < 2.
    """
    if rewards_BG.ndim != 2 or rewards_BG.shape[1] < 2:
        raise ValueError(
            f"group_advantages: expected rewards [B, G>=2], got {tuple(rewards_BG.shape)}; "
            "raise `model.init_args.group_size` to at least 2."
        )
    # the first reward is taken off beforehand: equal rewards then differ by exactly 0, whatever the rounding of a mean
    shifted_BG = rewards_BG - rewards_BG[:, :1]
    centred_BG = shifted_BG - shifted_BG.mean(dim=1, keepdim=True)
    return (centred_BG / (centred_BG.square().mean(dim=1, keepdim=True).sqrt() + eps)).detach()
