"""Sums over the processes of a run, so that every process decides alike and logs the same."""

from collections.abc import Sequence

import torch
from lightning import Trainer


def sum_over_processes(trainer: Trainer, values: Sequence[float]) -> list[float]:
    """Add up numbers of all processes, place by place; every process must call it."""
    numbers = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    return trainer.strategy.reduce(numbers, reduce_op="sum").tolist()
