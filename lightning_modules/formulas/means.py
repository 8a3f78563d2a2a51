"""Masked means: the reductions of [N, T] terms to the scalar loss.

If gradients of several batches are averaged, the caller gives the divisor: that of all batches over their number. The mean of
the parts is then the mean of the whole, for parts of any size.
"""

import torch
from torch import Tensor


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
