"""Masked means: what one number a loss makes of [N, T] terms."""

import torch
from torch import Tensor


def token_mean(terms_NT: Tensor, mask_NT: Tensor, *, tokens: Tensor | float | None = None) -> Tensor:
    """sum(mask * terms) / tokens: every token weighs the same (DAPO, arXiv:2503.14476, 3.3).

    Args:
        terms_NT: [N, T].
        mask_NT: [N, T], 1 where a term counts.
        tokens: divisor; None: the number of tokens in the mask, at least 1. When a batch is one of several whose gradients are
            added up, the tokens of them all over the number of them: the sum is then the mean over all their tokens.

    Returns:
        A scalar.
    """
    divisor = mask_NT.sum().clamp(min=1) if tokens is None else tokens
    # where, not a product: masked terms may be infinite
    return torch.where(mask_NT.bool(), terms_NT, 0.0).sum() / divisor
