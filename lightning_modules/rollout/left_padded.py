"""Prompts side by side with padding on the left, so that all of them end in the same column."""

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache


def prefill(model: PreTrainedModel, tokens_BP: Tensor, length_B: Tensor, cache: Cache) -> Tensor:
    """Fill `cache` with left-padded prompts; return the logits [B, V] of the first new token."""
    width = tokens_BP.shape[1]
    real_BP = visible(length_B, width, width)
    causal_PP = torch.ones(width, width, dtype=torch.bool, device=tokens_BP.device).tril()
    # a padded query sees itself, so that no row of the softmax is empty
    mask = (causal_PP & real_BP[:, None, :]) | torch.eye(width, dtype=torch.bool, device=tokens_BP.device)
    position_BP = (real_BP.cumsum(1) - 1).clamp(min=0)
    return model(
        input_ids=tokens_BP, position_ids=position_BP, attention_mask=mask[:, None], past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]  # fmt: skip


def visible(length_N: Tensor, width: int, total: int) -> Tensor:
    """[N, total] bool: all but the left padding of prompts of `length_N` tokens in `width` columns."""
    return torch.arange(total, device=length_N.device) >= (width - length_N)[:, None]
