"""A key-value cache of places: each holds one sequence of its own length, left-aligned, and may be given to another.

One step writes the keys and values of one token per place, each at its own length, and attends to what lies before it. With
`sharing` a place holds new tokens only, and its prompt is read from `Prefixes`; without, it begins with a copy of the prompt.
Shapes: R places, of which the first `rows` are in use; W positions looked at; C capacity; H heads, K key-value heads, D.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from lightning_modules.rollout.prefixes import Prefixes, attend_to_both

IN_PLACES = "rollout_places"


class SlotLayer(DynamicLayer):
    """Keys and values of one layer in all places."""

    def __init__(self, places: "SlotCache") -> None:
        """Take room when the first keys arrive."""
        super().__init__()
        self.places = places
        self.room: Tensor | None = None  # [2, R, K, C, D]

    def _make_room(self, like: Tensor) -> None:
        _, heads, _, size = like.shape
        device = like.device.type
        # attention would cast all of it at every step
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        # zeros: what is masked must not be NaN either
        self.room = torch.zeros(2, len(self.places.length_R), heads, self.places.capacity, size, dtype=dtype, device=like.device)

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Write [rows, K, 1, D] keys and values after what each place holds; return the first `width` positions as views."""
        if self.room is None:
            self._make_room(key_states)
        rows, width = self.places.rows, self.places.width
        row_R, at_R = self.places.row_R[:rows], self.places.held_R[:rows]
        self.room[0][row_R, :, at_R] = key_states[:, :, 0].to(self.room.dtype)
        self.room[1][row_R, :, at_R] = value_states[:, :, 0].to(self.room.dtype)
        return self.room[0, :rows, :, :width], self.room[1, :rows, :, :width]

    def insert(self, place_M: Tensor, states_2MKPD: Tensor) -> None:
        """Begin places with keys and values."""
        if self.room is None:
            self._make_room(states_2MKPD[0])
        self.room[:, place_M, :, : states_2MKPD.shape[3]] = states_2MKPD.to(self.room.dtype)

    def move(self, to_M: Tensor, from_M: Tensor, width: int) -> None:
        """Copy the first `width` positions of places to others."""
        for room in self.room:
            room[to_M, :, :width] = room[from_M, :, :width]


class SlotCache(DynamicCache):
    """The cache of all layers.

    length_R: [R] int64, tokens of each sequence, prompt and all.
    held_R:   [R] int64, those of them that lie in the place itself.
    slot_R, member_R: [R] the prompt of each place, and its number among that prompt's samples.
    rows:     places in use, the first ones.
    width:    positions that attention looks at; above every `held_R` in use.
    """

    def __init__(self, layers: int, places: int, capacity: int, device: torch.device, *, sharing: bool) -> None:
        """Make `places` empty places for `capacity` tokens each."""
        super().__init__()
        self.capacity, self.rows, self.width, self.sharing = capacity, places, 0, sharing
        self.length_R, self.held_R, self.slot_R, self.member_R = torch.zeros(4, places, dtype=torch.int64, device=device)
        self.row_R, self.column_C = torch.arange(places, device=device), torch.arange(capacity, device=device)
        self.prefixes = Prefixes(device)
        self.layers = [SlotLayer(self) for _ in range(layers)]

    def seen(self) -> Tensor:
        """[rows, 1, 1, W] bool: what lies in a place, and the token that is about to be written."""
        return (self.column_C[: self.width] <= self.held_R[: self.rows, None])[:, None, None]

    def begin(self, place_M: Tensor, slot_M: Tensor, member_M: Tensor) -> None:
        """Begin places with prompts of `prefixes`."""
        self.slot_R[place_M], self.member_R[place_M] = slot_M, member_M
        self.length_R[place_M] = length_M = self.prefixes.length_S[slot_M]
        self.held_R[place_M] = 0 if self.sharing else length_M
        if not self.sharing:
            for layer, states in zip(self.layers, self.prefixes.layers, strict=False):
                layer.insert(place_M, states[:, slot_M])

    def move(self, to_M: Tensor, from_M: Tensor) -> None:
        """Copy places to others."""
        width = int(self.held_R[from_M].max())
        for layer in self.layers:
            layer.move(to_M, from_M, width)
        for state_R in (self.length_R, self.held_R, self.slot_R, self.member_R):
            state_R[to_M] = state_R[from_M]

    def forget_prompts(self, used_R: Tensor) -> None:
        """Drop the prompts that none of the places `used_R` continues."""
        kept_S, slot_R = self.slot_R[used_R].unique(return_inverse=True)
        if len(kept_S) < len(self.prefixes.length_S):
            self.prefixes.replace(kept_S)
            self.slot_R[used_R] = slot_R


def attend_in_places(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor,
    scaling: float | None = None, places: SlotCache | None = None, **kwargs: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of one query per place; heads that share keys are taken as queries of one head, so no key is copied.

    Args:
        module: the attention layer, which knows its number.
        query: [R, H, 1, D].
        key: [R, K, W, D], H a multiple of K; what lies in the places.
        value: as `key`.
        attention_mask: [R, 1, 1, W] bool, see `SlotCache.seen`.
        scaling: of the scores; None: D ** -0.5.
        places: the cache, where places share prompts.
        kwargs: unused.

    Returns:
        [R, 1, H, D], and no weights.
    """
    rows, heads, _, size = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    if places is None or not places.prefixes.layers:
        output = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    else:
        place = places.slot_R[:rows], places.member_R[:rows]
        prefix, own = places.prefixes.layers[module.layer_idx], (key, value, ~attention_mask[:, 0, 0])
        output = attend_to_both(
            grouped.to(key.dtype), prefix.to(key.dtype), places.prefixes.hidden(), place, own, scaling or size**-0.5
        )
    return output.reshape(rows, 1, heads, size), None


AttentionInterface.register(IN_PLACES, attend_in_places)


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Make `model` attend by the function of this name for a while."""
    own = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = own
