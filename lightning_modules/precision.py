"""What bfloat16 costs on a CPU. It is measured, since it depends on the units, the libraries and what holds them back."""

from functools import cache
from time import perf_counter

import torch

SLOW = 2.0  # times float32's: from here on bfloat16 is advised against


@cache
def bf16_slowdown() -> float:
    """How many times as long as in float32 a product of matrices takes in bfloat16 on this CPU; measured once, in a second."""
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """Of the fastest of four products of a small model's size."""
    tokens, weights = torch.ones(1024, 128, dtype=dtype), torch.ones(128, 512, dtype=dtype)
    times = []
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for _ in range(4):
            started = perf_counter()
            torch.mm(tokens, weights)
            times.append(perf_counter() - started)
    return min(times)
