"""The policy-gradient loss: importance ratios pi / pi_old (as logarithms), their clipped surrogate, and its masked means.

If gradients of several batches are averaged, the caller gives the divisor of a mean: that of all batches over their number. The
mean of the parts is then the mean of the whole, for parts of any size.
"""

import torch
from torch import Tensor


def token_log_ratio(logp_NT: Tensor, logp_old_NT: Tensor) -> Tensor:
    """Compute log rho_nt = log pi(y_nt) - log pi_old(y_nt), token by token (arXiv:1707.06347, eq. 6).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.

    Returns:
        [N, T], nats.
    """
    return logp_NT - logp_old_NT


def sequence_log_ratio(logp_NT: Tensor, logp_old_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Compute log s_n = 1/length_n sum_t log rho_nt, one per completion (GSPO, arXiv:2507.18071, eq. 7).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.
        mask_NT: [N, T], 1 where a token was sampled; an empty row gives 0.

    Returns:
        [N, T], nats, constant along a row.
    """
    log_ratio_NT = torch.where(mask_NT.bool(), logp_NT - logp_old_NT, 0.0)
    return (log_ratio_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(logp_NT)


def sequence_token_log_ratio(logp_NT: Tensor, logp_old_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Compute log s_nt = sg(log s_n) + log pi(y_nt) - sg(log pi(y_nt)) (GSPO-token, arXiv:2507.18071, eq. 14).

    The value is that of `sequence_log_ratio`, and so is the gradient if the tokens of a completion share one advantage; otherwise
    each token is weighted by its own.

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_old_NT: [N, T] log pi_old of the same tokens.
        mask_NT: [N, T], 1 where a token was sampled; an empty row gives 0.

    Returns:
        [N, T], nats.
    """
    return sequence_log_ratio(logp_NT, logp_old_NT, mask_NT).detach() + (logp_NT - logp_NT.detach())


def clipped_surrogate(
    log_ratio_NT: Tensor, advantage_NT: Tensor, *, low: float, high: float, dual: float | None = None
) -> Tensor:
    """min(rho A, clip(rho, 1-low, 1+high) A), and if A < 0 at least dual * A.

    PPO (arXiv:1707.06347, eq. 7); high > low is DAPO's clip-higher (arXiv:2503.14476, eq. 10); dual is dual-clip PPO
    (arXiv:1912.09729, eq. 5): a ratio above `dual` of a token with A < 0 gives no gradient.

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


def token_mean(terms_NT: Tensor, mask_NT: Tensor, *, tokens: Tensor | float | None = None) -> Tensor:
    """sum(mask * terms) / tokens: every token has the same weight (DAPO, arXiv:2503.14476, 3.3).

    Args:
        terms_NT: [N, T].
        mask_NT: [N, T], 1 where a term counts.
        tokens: divisor; None: the number of tokens in the mask, at least 1.

    Returns:
        A scalar.
    """
    return _kept(terms_NT, mask_NT).sum() / (mask_NT.sum().clamp(min=1) if tokens is None else tokens)


def sequence_mean(terms_NT: Tensor, mask_NT: Tensor, *, sequences: Tensor | float | None = None) -> Tensor:
    """1/N sum_n ( sum_t mask * terms / length_n ): every completion has the same weight (GRPO, arXiv:2402.03300, eq. 3).

    Args:
        terms_NT: [N, T].
        mask_NT: [N, T], 1 where a term counts; an empty row adds 0.
        sequences: divisor; None: N.

    Returns:
        A scalar.
    """
    length_N = mask_NT.sum(dim=1).clamp(min=1)
    return (_kept(terms_NT, mask_NT).sum(dim=1) / length_N).sum() / (len(mask_NT) if sequences is None else sequences)


def constant_length_mean(terms_NT: Tensor, mask_NT: Tensor, *, length: int, sequences: Tensor | float | None = None) -> Tensor:
    """sum(mask * terms) / (N * length): no completion gains from its length (Dr. GRPO, arXiv:2503.20783, 3.2).

    Args:
        terms_NT: [N, T].
        mask_NT: [N, T], 1 where a term counts.
        length: a constant, e.g. the maximum length of a completion, tokens.
        sequences: second divisor; None: N.

    Returns:
        A scalar.
    """
    return _kept(terms_NT, mask_NT).sum() / (length * (len(mask_NT) if sequences is None else sequences))


def _kept(terms_NT: Tensor, mask_NT: Tensor) -> Tensor:
    # where, not a product: the value of a masked term may be infinite (its gradient may not)
    return torch.where(mask_NT.bool(), terms_NT, 0.0)
