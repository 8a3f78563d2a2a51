"""Sums over the processes of a run, so that all decide and log the same."""

from collections.abc import Sequence

import torch
from lightning import Trainer


def sum_over_processes(trainer: Trainer, values: Sequence[float]) -> list[float]:
    """Sum numbers over all processes, element by element; every process must call this."""
    numbers = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    return trainer.strategy.reduce(numbers, reduce_op="sum").tolist()
