"""A key-value cache for group sampling: prefilled once per prompt, fanned out to the group, rows dropped as they finish."""

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """A DynamicLayer that writes into room kept for `capacity` tokens instead of copying itself at every step."""

    def __init__(self, capacity: int) -> None:
        """Keep room for `capacity` tokens a row; taken when the first keys arrive."""
        super().__init__()
        self.capacity, self.used = capacity, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Append [N, heads, t, d] keys and values; return all so far as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            n, heads, _, size = key_states.shape
            self.room = key_states.new_empty(2, n, heads, self.capacity, size)
        end = self.used + key_states.shape[-2]
        self.room[0, :, :, self.used : end] = key_states
        self.room[1, :, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = self.room[0, :, :, :end], self.room[1, :, :, :end]
        return self.keys, self.values

    def take(self, rows_M: Tensor) -> None:
        """Keep `rows_M` (indices, repeats allowed) as the new rows."""
        fresh = self.room.new_empty(2, len(rows_M), *self.room.shape[2:])
        fresh[..., : self.used, :] = self.room[:, rows_M, :, : self.used]
        self.room = fresh
        self.keys, self.values = fresh[0, :, :, : self.used], fresh[1, :, :, : self.used]


class GroupCache(DynamicCache):
    """One PreallocatedLayer for each layer of a model."""

    def __init__(self, layers: int, capacity: int) -> None:
        """Make room for `capacity` tokens a row in each of `layers` layers."""
        super().__init__()
        self.layers = [PreallocatedLayer(capacity) for _ in range(layers)]

    def take(self, rows_M: Tensor) -> None:
        """Keep `rows_M` (indices, repeats allowed) as the new rows of every layer."""
        for layer in self.layers:
            layer.take(rows_M)
