"""Keys and values of prompts, kept once for all places that continue a prompt.

The queries of those places are put side by side, so that one product of matrices serves them all, where a copy per place would be
read from memory once for each. On a CPU that is what attention over prompts costs.
Shapes: S prompts, M places a prompt at most, R places, H heads, K key-value heads, g = H / K, P prompt tokens, W new tokens, D.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_modules.rollout.prefill import Prefilled


class Prefixes:
    """Prompts that are being continued.

    layers:   per layer [2, S, K, P, D] keys and values, padded on the right.
    length_S: tokens of each prompt.
    slot_R, rank_R: the prompt of each place in use, and the place's number among those of that prompt.
    """

    def __init__(self, device: torch.device) -> None:
        """Hold nothing."""
        self.layers: list[Tensor] = []
        self.length_S = torch.zeros(0, dtype=torch.int64, device=device)

    def add(self, fresh: Prefilled) -> Tensor:
        """Add prompts; return their [F] numbers here."""
        first, layers = len(self.length_S), [layer.float() for layer in fresh.layers]
        if self.layers:
            width = max(self.layers[0].shape[3], layers[0].shape[3])
            both = zip(self.layers, layers, strict=True)
            layers = [torch.cat([pad(x, (0, 0, 0, width - x.shape[3])) for x in pair], dim=1) for pair in both]
        self.layers = layers
        self.length_S = torch.cat([self.length_S, fresh.length_S])
        return torch.arange(first, len(self.length_S), device=self.length_S.device)

    def keep(self, slot_R: Tensor) -> Tensor:
        """Drop the prompts that `slot_R` does not name; return the new numbers of those that it does."""
        kept_S, slot_R = slot_R.unique(return_inverse=True)
        if len(kept_S) < len(self.length_S):
            self.length_S = self.length_S[kept_S]
            width = max(1, int(self.length_S.max())) if len(kept_S) else 0
            self.layers = [layer[:, kept_S, :, :width] for layer in self.layers]
        return slot_R

    def arrange(self, slot_R: Tensor) -> None:
        """Put places side by side by the prompt they continue."""
        order_R = slot_R.argsort(stable=True)
        sorted_R = slot_R[order_R]
        from_start_R = torch.arange(len(slot_R), device=slot_R.device)
        rank_R = torch.empty_like(slot_R)
        rank_R[order_R] = from_start_R - torch.searchsorted(sorted_R, sorted_R)
        self.slot_R, self.rank_R, self.members = slot_R, rank_R, int(rank_R.max()) + 1
        padding_SP = torch.arange(self.layers[0].shape[3], device=slot_R.device) >= self.length_S[:, None]
        self.bias_SP = torch.zeros(padding_SP.shape, device=slot_R.device).masked_fill_(padding_SP, -torch.inf)

    def attend(self, layer: int, query_RKgD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the places find in their prompts: see `partial_attention`, with [R, K, g, ...]."""
        key_SKPD, value_SKPD = self.layers[layer]
        (prompts, heads, _, size), (_, _, shared, _) = key_SKPD.shape, query_RKgD.shape
        query_SKMgD = query_RKgD.new_zeros(prompts, heads, self.members, shared, size)
        query_SKMgD[self.slot_R, :, self.rank_R] = query_RKgD
        parts = partial_attention(query_SKMgD.flatten(2, 3), key_SKPD, value_SKPD, self.bias_SP[:, None, None])
        both = torch.cat(parts, dim=-1).unflatten(2, (self.members, shared))[self.slot_R, :, self.rank_R]
        return both[..., :size], both[..., size : size + 1], both[..., size + 1 :]


def partial_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention to a part of the positions, to be merged with the rest (arXiv:1805.02867).

    Args:
        query: [..., Q, D], scaled.
        key: [..., L, D].
        value: [..., L, D].
        bias: [..., 1, L], 0 or -inf for what is not to be seen, which may be everything.

    Returns:
        [..., Q, D] sum of values weighted by exp(score - most), [..., Q, 1] the largest score, [..., Q, 1] sum of the weights.
    """
    score = torch.matmul(query, key.transpose(-1, -2)).add_(bias)
    most = score.amax(-1, keepdim=True).clamp_(min=torch.finfo(score.dtype).min)
    weight = score.sub_(most).exp_()
    return torch.matmul(weight, value), most, weight.sum(-1, keepdim=True)


def merged(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Attention to two parts of the positions, from `partial_attention` to each."""
    (sum_1, most_1, mass_1), (sum_2, most_2, mass_2) = first, second
    most = torch.maximum(most_1, most_2)
    factor_1, factor_2 = (most_1 - most).exp_(), (most_2 - most).exp_()
    return (sum_1 * factor_1 + sum_2 * factor_2) / (mass_1 * factor_1 + mass_2 * factor_2)
