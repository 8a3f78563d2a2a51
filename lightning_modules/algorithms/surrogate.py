"""The clipped policy-gradient surrogate."""

import torch
from torch import Tensor


def clipped_surrogate(logp_NT: Tensor, logp_old_NT: Tensor, advantage_NT: Tensor, *, clip: float) -> Tensor:
    """min(rho A, clip(rho, 1-clip, 1+clip) A) with rho = pi / pi_old, per token (arXiv:1707.06347, eq. 7).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.
        advantage_NT: [N, T] or broadcastable.
        clip: half-width of the trusted interval of the ratio.

    Returns:
        [N, T], to be maximised.
    """
    ratio_NT = (logp_NT - logp_old_NT).exp()
    return torch.minimum(ratio_NT * advantage_NT, ratio_NT.clamp(1 - clip, 1 + clip) * advantage_NT)
