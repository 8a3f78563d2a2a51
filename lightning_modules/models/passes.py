"""Minibatches in passes: as many rows at a time as memory holds, with the gradients of all rows at once.

A pass but the last keeps nothing for the backward pass, which runs it again; so whatever is computed from all rows stays one
formula, and one backward pass reduces gradients over processes. Shapes: N rows, T tokens of prompt, completion and padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

Lengths = Sequence[tuple[int, int]]


@dataclass(slots=True)
class Rows:
    """Rows of prompt, completion and padding.

    tokens_NT: [N, T] ids.
    mask_NT:   [N, T-1] bool, true where a position predicts a sampled token.
    lengths:   [N] tokens of each prompt, and of prompt and completion; on the host, so that it need not wait for the device.
    """

    tokens_NT: Tensor
    mask_NT: Tensor
    lengths: Lengths

    @classmethod
    def of(cls, tokens_NT: Tensor, mask_NT: Tensor) -> "Rows":
        """Rows whose lengths are read from the mask, for which the host waits."""
        first_N = mask_NT.int().argmax(1) + 1
        ends_N = (first_N + mask_NT.sum(1)).tolist()
        return cls(tokens_NT, mask_NT, list(zip(first_N.tolist(), ends_N, strict=True)))

    def only(self, chosen: Sequence[int]) -> "Rows":
        """Some of the rows, cut to the longest."""
        lengths = [self.lengths[n] for n in chosen]
        width, index = max(end for _, end in lengths), on_device(chosen, self.tokens_NT.device)
        return Rows(
            self.tokens_NT[:, :width].index_select(0, index), self.mask_NT[:, : width - 1].index_select(0, index), lengths
        )


def on_device(numbers: Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
    """Numbers of the host on a device, for which the host does not wait."""
    tensor = torch.as_tensor(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def plan(lengths: Lengths, most: int, *, by_length: bool) -> list[list[int]]:
    """Cut rows into passes of at most `most` tokens, counted with padding; a longer row has a pass of its own.

    Args:
        lengths: see Rows.
        most: tokens of a pass.
        by_length: sort rows, so that there is little padding; false: keep them in order, as rows of a group share a prompt.

    Returns:
        The rows of each pass, the largest last, as it is not run again. Rows that fit one pass keep their order.
    """
    ends = [end - 1 for _, end in lengths]  # the last token predicts nothing
    order = list(range(len(ends)))
    if len(ends) * max(ends) <= most:
        return [order]
    passes: list[list[int]] = []
    widest = 0
    for n in sorted(order, key=ends.__getitem__) if by_length else order:
        widest = max(widest, ends[n]) if passes else ends[n]
        if not passes or (len(passes[-1]) + 1) * widest > most:
            passes.append([])
            widest = ends[n]
        passes[-1].append(n)
    largest = max(passes, key=lambda chosen: len(chosen) * max(ends[n] for n in chosen))
    return [*(chosen for chosen in passes if chosen is not largest), largest]


def levelled(passes: list[list[int]], count: int) -> list[list[int]]:
    """At least `count` passes: large ones are cut in two, and then the first row is computed again.

    Processes with sharded weights must run them equally often.
    """
    passes = list(passes)
    while len(passes) < count:
        largest = max(range(len(passes)), key=lambda k: len(passes[k]))
        rows = passes[largest]
        passes[largest : largest + 1] = [rows[::2], rows[1::2]] if len(rows) > 1 else [rows, rows[:1]]
    return passes


def in_passes(compute: Callable[[Rows], tuple[Tensor, ...]], rows: Rows, passes: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """The [N, T-1] outputs of `compute`, pass by pass; behind the longest row of a pass they are 0.

    Args:
        compute: treats each row by itself.
        rows: all rows.
        passes: see `plan`.
    """
    if len(passes) == 1:
        return compute(rows)
    width, found = rows.mask_NT.shape[1], []
    for number, chosen in enumerate(passes, 1):
        part = rows.only(chosen)
        if number < len(passes) and torch.is_grad_enabled():
            outputs = checkpoint(compute, part, use_reentrant=False, preserve_rng_state=False)
        else:
            outputs = compute(part)
        found.append([pad(output, (0, width - output.shape[1])) for output in outputs])
    places = {n: place for place, n in enumerate(chain.from_iterable(passes))}
    index = on_device([places[n] for n in range(len(rows.lengths))], rows.tokens_NT.device)
    return tuple(torch.cat(parts).index_select(0, index) for parts in zip(*found, strict=True))
