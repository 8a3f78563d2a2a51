"""The clipped policy-gradient surrogate."""

import torch
from torch import Tensor


def clipped_surrogate(
    log_ratio_NT: Tensor, advantage_NT: Tensor, *, low: float, high: float, dual: float | None = None
) -> Tensor:
    """min(rho A, clip(rho, 1-low, 1+high) A), and where A < 0 at least dual * A.

    PPO (arXiv:1707.06347, eq. 7); high > low is DAPO's clip-higher (arXiv:2503.14476, eq. 10); dual is dual-clip PPO
    (arXiv:1912.09729, eq. 5): a ratio above `dual` of a bad token gives no gradient, however large.

    Args:
        log_ratio_NT: [N, T] log rho = log(pi / pi_old), nats, with gradient.
        advantage_NT: [N, T] or broadcastable.
        low: how far below 1 the ratio is trusted.
        high: how far above.
        dual: bound on the ratio of tokens with A < 0, above 1 + high; None: no bound.

    Returns:
        [N, T], to be maximised.
    """
    ratio_NT = log_ratio_NT.exp()
    gain_NT = torch.minimum(ratio_NT * advantage_NT, ratio_NT.clamp(1 - low, 1 + high) * advantage_NT)
    if dual is None:
        return gain_NT
    return torch.where(advantage_NT < 0, torch.maximum(gain_NT, dual * advantage_NT), gain_NT)


def clipped_tokens(log_ratio_NT: Tensor, advantage_NT: Tensor, *, low: float, high: float, dual: float | None = None) -> Tensor:
    """[N, T] bool: the clip holds the token back (rho > 1+high with A > 0, or rho < 1-low or rho > dual with A < 0)."""
    ratio_NT = log_ratio_NT.exp()
    held_back_NT = ((ratio_NT > 1 + high) & (advantage_NT > 0)) | ((ratio_NT < 1 - low) & (advantage_NT < 0))
    return held_back_NT if dual is None else held_back_NT | ((ratio_NT > dual) & (advantage_NT < 0))
