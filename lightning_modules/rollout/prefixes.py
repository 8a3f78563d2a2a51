"""Keys and values of prefilled prompts, read once per step for all samples of a prompt.

Samples of one prompt have its keys in common. Their queries are put side by side, so that one product of matrices serves the
group, where a cache with a copy per sample would be read from memory once for each.
Shapes: S prompts, M samples a prompt, R places, H heads, K key-value heads, g = H / K, P prompt tokens, W new tokens, D.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache


class Prefixes:
    """Prefilled prompts.

    layers:   per layer [2, S, K, P, D] keys and values, padded on the right; none where prompts have no tokens.
    length_S: tokens of each prompt.
    """

    def __init__(self, device: torch.device) -> None:
        """Hold nothing."""
        self.layers: list[Tensor] = []
        self.length_S = torch.zeros(0, dtype=torch.int64, device=device)

    def replace(self, keep_S: Tensor, fresh: DynamicCache | None = None, length_F: Tensor | None = None) -> None:
        """Keep some prompts, in the order given, and add those of a cache after them, of at most as many tokens."""
        old = [layer[:, keep_S] for layer in self.layers]
        new = [torch.stack([layer.keys, layer.values.to(layer.keys.dtype)]) for layer in fresh.layers] if fresh else []
        if old and not new and length_F is not None:  # prompts without tokens
            new = [layer.new_zeros(2, len(length_F), layer.shape[2], 0, layer.shape[4]) for layer in old]
        if new and old:
            width = max(old[0].shape[3], new[0].shape[3])
            both = zip(old, new, strict=True)
            new = [torch.cat([pad(x, (0, 0, 0, width - x.shape[3])) for x in pair], dim=1) for pair in both]
        self.layers = new or old
        self.length_S = self.length_S[keep_S] if length_F is None else torch.cat([self.length_S[keep_S], length_F])

    def hidden(self) -> Tensor:
        """[S, P] bool: padding."""
        return torch.arange(self.layers[0].shape[3], device=self.length_S.device) >= self.length_S[:, None]


def attend_to_both(
    query_RKgD: Tensor, prefix_2SKPD: Tensor, hidden_SP: Tensor, place: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> Tensor:  # fmt: skip
    """Softmax attention over a place's prompt and its own tokens together.

    Args:
        query_RKgD: one query per place and head.
        prefix_2SKPD: keys and values of the prompts.
        hidden_SP: true for padding of prompts.
        place: [R] prompt of each place, and [R] its number among the samples of that prompt, no two alike.
        own: [R, K, W, D] keys and values of the places' own tokens, and [R, W] true for those to be left out.
        scale: of the scores.

    Returns:
        [R, K, g, D].
    """
    (slot_R, member_R), (key_RKWD, value_RKWD, hidden_RW) = place, own
    rows, heads, shared, size = query_RKgD.shape
    _, prompts, _, width, _ = prefix_2SKPD.shape
    members = int(member_R.max()) + 1
    query_SMKgD = query_RKgD.new_zeros(prompts, members, heads, shared, size)
    query_SMKgD[slot_R, member_R] = query_RKgD
    side_by_side = query_SMKgD.transpose(1, 2).reshape(prompts, heads, members * shared, size)
    score_SKMgP = torch.matmul(side_by_side, prefix_2SKPD[0].transpose(2, 3)).view(prompts, heads, members, shared, width)
    score_RKgP = score_SKMgP.transpose(1, 2)[slot_R, member_R].masked_fill(hidden_SP[slot_R, None, None], -torch.inf)
    score_RKgW = torch.matmul(query_RKgD, key_RKWD.transpose(2, 3)).masked_fill(hidden_RW[:, None, None], -torch.inf)
    weight = (torch.cat([score_RKgP, score_RKgW], dim=-1) * scale).softmax(-1).to(value_RKWD.dtype)
    weight_SMKgP = weight.new_zeros(prompts, members, heads, shared, width)
    weight_SMKgP[slot_R, member_R] = weight[..., :width]
    side_by_side = weight_SMKgP.transpose(1, 2).reshape(prompts, heads, members * shared, width)
    output_SKMgD = torch.matmul(side_by_side, prefix_2SKPD[1]).view(prompts, heads, members, shared, size)
    return output_SKMgD.transpose(1, 2)[slot_R, member_R] + torch.matmul(weight[..., width:], value_RKWD)
