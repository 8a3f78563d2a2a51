"""Likelihood of given texts under a model, token by token (teacher forcing)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from lightning_modules.models.label_scores import scored
from lightning_modules.models.language_model import check_length

TOKENS_AT_ONCE = 16_384


def forward(model: PreTrainedModel, tokens_NT: Tensor) -> Tensor:
    """[N T, V] logits."""
    return model(input_ids=tokens_NT, use_cache=False).logits.flatten(0, 1)


@torch.inference_mode()
def token_nll(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], first: Sequence[int], *, tokens: int = TOKENS_AT_ONCE,
    whole: bool = False,
) -> list[Tensor]:  # fmt: skip
    """Negative log-likelihood of the tokens of each row from `first` on, at temperature 1.

    Args:
        model: a causal LM, in the mode (train or eval) it is in.
        rows: N token lists.
        first: the first token to score in each row; at least 1, as token 0 is not predicted.
        tokens: of one forward pass; a longer row has one of its own.
        whole: see `scored`.

    Returns:
        N tensors of len(row) - first nats, on the CPU.

    Raises:
        ValueError: the model has fewer positions.
    """
    check_length(model, max(map(len, rows), default=1) - 1)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: dict[int, Tensor] = {}
    while order:
        count = 1  # rows are sorted: the last one taken is the widest
        while count < len(order) and (count + 1) * len(rows[order[count]]) <= tokens:
            count += 1
        chunk, order = order[:count], order[count:]
        # right-padded rows under a causal mask: padding is never seen
        tokens_NT = pad_sequence([torch.tensor(rows[i]) for i in chunk], batch_first=True).to(model.device)
        run, label_NT = partial(forward, model, tokens_NT[:, :-1]), tokens_NT[:, 1:]
        nll_NT = -scored(model, run, label_NT.flatten(), whole=whole)[0].view(label_NT.shape).cpu()
        found |= {i: nll_NT[n, first[i] - 1 : len(rows[i]) - 1] for n, i in enumerate(chunk)}
    return [found[i] for i in range(len(rows))]
