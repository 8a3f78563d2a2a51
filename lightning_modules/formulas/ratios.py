"""Importance ratios pi / pi_old, as logarithms."""

import torch
from torch import Tensor


def token_log_ratio(logp_NT: Tensor, logp_old_NT: Tensor) -> Tensor:
    """Compute log rho_nt = log pi(y_nt) - log pi_old(y_nt), for each token by itself (arXiv:1707.06347, eq. 6).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.

    Returns:
        [N, T], nats.
    """
    return logp_NT - logp_old_NT


def sequence_log_ratio(logp_NT: Tensor, logp_old_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Compute log s_n = 1/length_n sum_t log rho_nt, one a completion (GSPO, arXiv:2507.18071, eq. 7).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.
        mask_NT: [N, T], 1 where a token was sampled; an empty row gives 0.

    Returns:
        [N, T], nats, the same number along a row.
    """
    log_ratio_NT = torch.where(mask_NT.bool(), logp_NT - logp_old_NT, 0.0)
    return (log_ratio_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(logp_NT)


def sequence_token_log_ratio(logp_NT: Tensor, logp_old_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Compute log s_nt = sg(log s_n) + log pi(y_nt) - sg(log pi(y_nt)) (GSPO-token, arXiv:2507.18071, eq. 14).

    The value is that of `sequence_log_ratio`, and where all tokens of a completion have one advantage so is the gradient; where
    they differ, each token answers for its own.

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.
        mask_NT: [N, T], 1 where a token was sampled; an empty row gives 0.

    Returns:
        [N, T], nats.
    """
    return sequence_log_ratio(logp_NT, logp_old_NT, mask_NT).detach() + (logp_NT - logp_NT.detach())
