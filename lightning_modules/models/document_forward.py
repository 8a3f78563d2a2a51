"""Logits of packed documents without padding, without a mask, and only at labelled positions.

The documents of a batch lie side by side in one row, those of equal length adjacent. Only attention knows where they end: it
takes the documents of each length as one batch, by views. The logits equal those under a mask (up to rounding) at lower cost, as
a CPU computes masked positions too.
Shapes: F tokens of documents, M of them with a label, n documents of L tokens; H heads, K key-value heads, D head size.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from datamodules.rows.documents import IGNORE
from lightning_modules.models.attending import attending, changed_attention, state

DOCUMENTS = "documents"
Sizes = tuple[tuple[int, int], ...]  # (n, L) for each length


def document_places(document_BT: Tensor) -> tuple[Tensor, Sizes]:
    """Where the documents of packed rows lie.

    Args:
        document_BT: [B, T] numbers of documents within their rows; 0 is padding, which counts only if there is no document.

    Returns:
        [F] places of their tokens in the flattened rows, document by document, the shortest first; and (n, L) for each length.
    """
    rows = torch.arange(len(document_BT), device=document_BT.device)[:, None]
    number_N = (rows * (int(document_BT.max()) + 1) + document_BT).flatten()
    _, length_D = number_N.unique_consecutive(return_counts=True)
    first_D = length_D.cumsum(0) - length_D
    real_D = document_BT.flatten()[first_D] > 0
    real_D |= ~real_D.any()
    length_D, order_D = length_D[real_D].sort(stable=True)
    first_D = first_D[real_D][order_D]
    start_D = length_D.cumsum(0) - length_D
    place_F = torch.arange(int(length_D.sum()), device=first_D.device) + (first_D - start_D).repeat_interleave(length_D)
    lengths, counts = length_D.unique_consecutive(return_counts=True)
    return place_F, tuple(zip(counts.tolist(), lengths.tolist(), strict=True))


def document_logits(
    model: PreTrainedModel, tokens_BT: Tensor, labels_BT: Tensor, position_BT: Tensor, document_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute logits at positions with a label.

    Args:
        model: a causal LM whose attention is softmax attention, with or without a sliding window.
        tokens_BT: [B, T] ids.
        labels_BT: [B, T] ids to predict, or IGNORE.
        position_BT: [B, T] positions within documents.
        document_BT: [B, T] numbers of documents within their rows; 0 is padding.

    Returns:
        [M, V] logits and [M] labels, in the order of the rows; M is at least 1 (a batch without labels has one, IGNORE).
    """
    place_F, sizes = document_places(document_BT)
    label_F = labels_BT.flatten()[place_F]
    kept_M = (label_F != IGNORE).nonzero().flatten()
    kept_M = kept_M if len(kept_M) else kept_M.new_zeros(1)
    kept_M = kept_M[place_F[kept_M].argsort()]
    with attending(model, DOCUMENTS, sizes):
        logits_1MV = model(
            input_ids=tokens_BT.flatten()[None, place_F], position_ids=position_BT.flatten()[None, place_F], use_cache=False,
            logits_to_keep=kept_M,
        ).logits  # fmt: skip
    return logits_1MV[0], label_F[kept_M]


def attend_within_documents(
    module: torch.nn.Module, query_1HFD: Tensor, key_1KFD: Tensor, value_1KFD: Tensor, attention_mask: None,
    scaling: float | None = None, dropout: float = 0.0, sliding_window: int | None = None, **kwargs: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention of each document to itself, as an attention function of `transformers`: [1, F, H, D], and no weights.

    `state()` holds the sizes of the documents.

    Raises:
        ValueError: attention with a soft cap or with sinks.
    """
    if strange := changed_attention(kwargs):
        raise ValueError(f"attention `documents` does not support {strange}; set another `model.init_args.attention`.")
    query_FHD, key_FKD, value_FKD = (x[0].transpose(0, 1) for x in (query_1HFD, key_1KFD, value_1KFD))
    sizes: Sizes = state()
    parts = [count * length for count, length in sizes]
    outputs = []
    for (count, length), *states in zip(sizes, *(x.split(parts) for x in (query_FHD, key_FKD, value_FKD)), strict=True):
        query, key, value = (x.unflatten(0, (count, length)).transpose(1, 2) for x in states)
        windowed = within(length, sliding_window, query.device) if sliding_window and sliding_window < length else None
        output = scaled_dot_product_attention(
            query, key, value, windowed, is_causal=windowed is None, scale=scaling, dropout_p=dropout,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None


def within(length: int, window: int, device: torch.device) -> Tensor:
    """[T, T] bool: the last `window` tokens up to each, itself included."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


AttentionInterface.register(DOCUMENTS, attend_within_documents)
