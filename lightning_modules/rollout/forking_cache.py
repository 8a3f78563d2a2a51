"""A key-value cache whose rows fork: a new row starts as a copy of another, and no other row is moved."""

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class ForkingLayer(DynamicLayer):
    """A DynamicLayer with room for more tokens and more rows than it has."""

    def __init__(self, capacity: int) -> None:
        """Keep room for `capacity` tokens a row; taken when the first keys arrive."""
        super().__init__()
        self.capacity, self.used, self.rows = capacity, 0, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Append [R, heads, t, d] keys and values; return all so far as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.rows, heads, _, size = key_states.shape
            self.room = key_states.new_empty(2, self.rows, heads, self.capacity, size)
        end = self.used + key_states.shape[-2]
        self.room[0, : self.rows, :, self.used : end] = key_states
        self.room[1, : self.rows, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = self.room[0, : self.rows, :, :end], self.room[1, : self.rows, :, :end]
        return self.keys, self.values

    def fork(self, parents_E: Tensor, slots_E: Tensor, rows: int) -> None:
        """Copy rows `parents_E` to `slots_E`, of which those from the old number of rows on are new; `rows` is the new number."""
        if rows > self.room.shape[1]:
            grown = self.room.new_empty(2, max(rows, 2 * self.room.shape[1]), *self.room.shape[2:])
            grown[:, : self.rows, :, : self.used] = self.room[:, : self.rows, :, : self.used]
            self.room = grown
        self.room[:, slots_E, :, : self.used] = self.room[:, parents_E, :, : self.used]
        self.rows = rows

    def take(self, rows_R: Tensor) -> None:
        """Keep `rows_R` as the only rows."""
        self.room[:, : len(rows_R), :, : self.used] = self.room[:, rows_R, :, : self.used]
        self.rows = len(rows_R)


class ForkingCache(DynamicCache):
    """One ForkingLayer for each layer of a model."""

    def __init__(self, layers: int, capacity: int) -> None:
        """Make room for `capacity` tokens a row in each of `layers` layers."""
        super().__init__()
        self.layers = [ForkingLayer(capacity) for _ in range(layers)]

    def fork(self, parents_E: Tensor, slots_E: Tensor, rows: int) -> None:
        """See `ForkingLayer.fork`; in every layer."""
        for layer in self.layers:
            layer.fork(parents_E, slots_E, rows)

    def take(self, rows_R: Tensor) -> None:
        """Keep `rows_R` as the only rows of every layer."""
        for layer in self.layers:
            layer.take(rows_R)
