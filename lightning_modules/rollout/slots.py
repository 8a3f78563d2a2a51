"""A key-value cache of slots, each of which holds one sequence of any length and can be reused, and the prompts that start there.

Prompts are prefilled once each, whatever their number of completions. Sequences are left-aligned.
A step writes the keys and values of one token per slot, each at its slot's length, and attends to the tokens before it.
Shapes: R slots, of which the first `rows` are in use; W positions attended to; C capacity; H heads, K key-value heads, D.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from lightning_modules.models.attending import attending, autocast_dtype, changed_attention, state
from lightning_modules.rollout.sampling import Request

IN_SLOTS = "rollout_slots"
COLUMNS = 64  # positions by which slots grow


class SlotLayer(DynamicLayer):
    """Keys and values of one layer in all slots."""

    def __init__(self, slots: "SlotCache") -> None:
        super().__init__()
        self.slots = slots
        self.storage: Tensor | None = None  # [2, R, K, C, D]

    def _allocate(self, like: Tensor, rows: int, width: int) -> None:
        """Ensure storage for `rows` slots of `width` positions; with `fixed` shapes, for the maximum."""
        slots, old = self.slots, self.storage
        if old is not None and rows <= old.shape[1] and width <= old.shape[3]:
            return
        held_rows, held_width = (0, 0) if old is None else (old.shape[1], old.shape[3])
        rows = len(slots.length_R) if slots.fixed else max(rows, min(2 * held_rows, len(slots.length_R)))
        width = slots.capacity if slots.fixed else min(slots.capacity, max(held_width, -(-width // COLUMNS) * COLUMNS))
        # zeros, as masked values must not be NaN
        self.storage = like.new_zeros(2, rows, like.shape[1], width, like.shape[3], dtype=slots.dtype(like))
        if old is not None:
            self.storage[:, :held_rows, :, :held_width] = old

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Append [rows, K, 1, D] keys and values to each slot; return the first `width` positions as views."""
        rows, width = self.slots.rows, self.slots.width
        self._allocate(key_states, rows, width)
        row_R, at_R = self.slots.row_R[:rows], self.slots.held_R[:rows]
        self.storage[0][row_R, :, at_R] = key_states[:, :, 0].to(self.storage.dtype)
        self.storage[1][row_R, :, at_R] = value_states[:, :, 0].to(self.storage.dtype)
        return self.storage[0, :rows, :, :width], self.storage[1, :rows, :, :width]

    def insert(self, slot_M: Tensor, states_2MKPD: Tensor) -> None:
        """Start slots with keys and values."""
        width = states_2MKPD.shape[3]
        self._allocate(states_2MKPD[0], self.slots.rows, width)
        self.storage[:, slot_M, :, :width] = states_2MKPD.to(self.storage.dtype)

    def copy(self, from_M: Tensor, to_M: Tensor, width: int) -> None:
        """Copy the first `width` positions of slots to others."""
        self._allocate(self.storage[0], self.slots.rows, width)
        for part in self.storage:
            part[to_M, :, :width] = part[from_M, :, :width]


class SlotCache(DynamicCache):
    """The cache of all layers.

    length_R: [R] int64, tokens of each sequence, prompt included.
    held_R:   [R] int64, tokens of it in the slot itself.
    rows:     number of slots in use, the first ones.
    width:    positions that attention covers; above every `held_R` in use.
    """

    def __init__(self, layers: int, slots: int, capacity: int, device: torch.device, *, fixed: bool = False) -> None:
        """Create empty slots.

        Args:
            layers: of the model.
            slots: maximum number.
            capacity: maximum tokens of a slot.
            device: of the model.
            fixed: allocate everything at once, so that addresses stay; otherwise storage grows.
        """
        super().__init__()
        self.capacity, self.fixed, self.rows, self.width = capacity, fixed, 0, 0
        self.length_R, self.held_R = torch.zeros(2, slots, dtype=torch.int64, device=device)
        self.row_R, self.column_C = torch.arange(slots, device=device), torch.arange(capacity, device=device)
        self.layers = [SlotLayer(self) for _ in range(layers)]

    def dtype(self, like: Tensor) -> torch.dtype:
        """The dtype of keys and values: that of attention, so that no step casts them."""
        return autocast_dtype(like)

    def seen(self) -> Tensor:
        """[rows, 1, 1, W] bool: tokens in a slot, and the token about to be written."""
        return (self.column_C[: self.width] <= self.held_R[: self.rows, None])[:, None, None]

    def copy(self, from_M: Tensor, to_M: Tensor, width: int | None = None) -> None:
        """Copy the first `width` positions of slots to others; None: those that are held, for which the host waits."""
        width = int(self.held_R[from_M].max()) if width is None else width
        for layer in self.layers:
            layer.copy(from_M, to_M, width)
        for state_R in (self.length_R, self.held_R):
            state_R[to_M] = state_R[from_M]


def attend_in_slots(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor,
    scaling: float | None = None, **kwargs: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of one query per slot; heads that share keys count as queries of one head, so that no key is copied.

    `state()` is the cache, if slots share prompts (prefix_sharing.py), which then computes attention; else None.

    Args:
        module: the attention layer, which knows its number.
        query: [R, H, 1, D].
        key: [R, K, W, D], H a multiple of K; content of the slots.
        value: as `key`.
        attention_mask: [R, 1, 1, W] bool, see `SlotCache.seen`.
        scaling: of the scores; None: D ** -0.5.
        kwargs: others that models pass; those that change the result are refused.

    Returns:
        [R, 1, H, D], and no weights.

    Raises:
        ValueError: attention with a soft cap or with sinks.
    """
    if strange := changed_attention(kwargs):
        raise ValueError(f"the native engine's attention does not support {strange}; set `sampling.engine: transformers`.")
    rows, heads, _, size = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    if (slots := state()) is not None:
        output = slots.attend(module.layer_idx, grouped * (scaling or size**-0.5), (key, value)).to(query.dtype)
    else:
        output = scaled_dot_product_attention(grouped.to(key.dtype), key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(rows, 1, heads, size), None


AttentionInterface.register(IN_SLOTS, attend_in_slots)


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
