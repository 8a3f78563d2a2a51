"""Prompts that wait to be sampled, and their keys and values, computed once per prompt."""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from lightning_modules.models.attending import attending
from lightning_modules.rollout.sampling import Request

PREFILL_TOKENS = 1 << 14  # of one forward pass, including padding


@dataclass(slots=True)
class Prefilled:
    """Keys and values of S prompts, each without its last token, which is the first input of sampling.

    number_S: numbers of the prompts.      last_S: their last tokens.      length_S: number of tokens in `layers`.
    layers:   for each layer [2, S, K, P, D] keys and values, padded on the right.
    """

    number_S: Tensor
    last_S: Tensor
    length_S: Tensor
    layers: list[Tensor]


class PromptQueue:
    """Prompts, the longest first: similar lengths are prefilled together, and the slowest do not start last."""

    def __init__(self, model: PreTrainedModel, request: Request) -> None:
        self.model, self.request = model, request
        self.waiting = deque(sorted(range(len(request.prompts)), key=lambda i: -len(request.prompts[i])))

    def __len__(self) -> int:
        return len(self.waiting)

    def prefill(self, most: int) -> Prefilled:
        """Take the next prompts, at most `most`."""
        device, prompts = self.model.device, self.request.prompts
        count = max(1, min(most, len(self), PREFILL_TOKENS // len(prompts[self.waiting[0]])))
        chosen = [self.waiting.popleft() for _ in range(count)]
        rows = [torch.tensor(prompts[i][:-1], dtype=torch.int64) for i in chosen]
        if not len(rows[0]):  # prompts of one token: add an unused column
            rows[0] = torch.tensor([self.request.pad_id])
        # padded on the right under a causal mask: padding is never seen
        tokens_SP = pad_sequence(rows, batch_first=True, padding_value=self.request.pad_id).to(device)
        cache = DynamicCache()
        with attending(self.model, "sdpa"):
            self.model(input_ids=tokens_SP, past_key_values=cache, use_cache=True, logits_to_keep=1)
        number_S, last_S, length_S = torch.tensor([(i, prompts[i][-1], len(prompts[i]) - 1) for i in chosen], device=device).T
        layers = [torch.stack([layer.keys, layer.values.to(layer.keys.dtype)]) for layer in cache.layers]
        return Prefilled(number_S, last_S, length_S, layers)
