"""Rows that several processes gather: the state of metrics that need more than sums."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class JoinedRows(Metric):
    """A table to which each process adds rows; `compute` gives the rows of all. A process without rows joins in all the same."""

    full_state_update = False

    def __init__(self, columns: int, dtype: torch.dtype) -> None:
        """Start empty."""
        super().__init__()
        self.columns, self.kind = columns, dtype
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Start again; no rows, but of the right width, so that gathering works without any."""
        super().reset()
        self.rows.append(torch.zeros(0, self.columns, dtype=self.kind, device=self.device))

    def add(self, rows_MC: Tensor) -> None:
        """Add [M, C] rows."""
        self.rows.append(rows_MC.to(self.device, self.kind).reshape(-1, self.columns))

    def compute(self) -> Tensor:
        """[M, C] rows of all batches and processes."""
        return dim_zero_cat(self.rows)
