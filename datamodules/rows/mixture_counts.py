"""Documents that a process drew, counted by cell, so that a run can prove its mixture.

Not here: sums over processes and the file (`callbacks/records/run_record.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.choices import check_choice
from datamodules.problems.mixture import Cell

ShareOf = Literal["examples", "tokens"]


class MixtureCounts:
    """Documents and tokens by cell: int64 [cells + 1, 2]; the last row counts documents dropped as too long.

    Args:
        cells: those that can be drawn.
        intended: the share of each; None for rows of files.
        share_of: whether shares are of "examples" or of their "tokens".
    """

    def __init__(self, cells: Sequence[Cell], intended: Mapping[Cell, float] | None, share_of: ShareOf) -> None:
        self.numbers = {cell: number for number, cell in enumerate(cells)}
        self.intended = None if intended is None else [intended.get(cell, 0.0) for cell in self.numbers]
        check_choice("share_of", share_of, ShareOf)
        self.share_of = share_of
        self.counts = torch.zeros(len(self.numbers) + 1, 2, dtype=torch.int64)

    @property
    def plan(self) -> dict[str, Any]:
        """The intended mixture as plain values: runs with another plan cannot share counts."""
        names = [f"op {cell.op}, {cell.context}, {cell.mode}" for cell in self.numbers]
        return {"cells": names, "intended": self.intended, "share_of": self.share_of}

    def add(self, cell_D: Tensor, tokens_D: Tensor, *, dropped: int = 0) -> None:
        """Count documents by the numbers of their cells and their tokens."""
        self.counts[:-1, 0] += torch.bincount(cell_D, minlength=len(self.numbers))
        self.counts[:-1, 1].index_add_(0, cell_D, tokens_D)
        self.counts[-1, 0] += dropped

    def take(self) -> Tensor:
        """The counts since the last call."""
        counts, self.counts = self.counts, torch.zeros_like(self.counts)
        return counts

    def distance(self, counts: Tensor) -> float | None:
        """Total variation distance between drawn and intended shares, 0 ... 1; None if nothing is drawn or intended."""
        column = counts[:-1, int(self.share_of == "tokens")].double()
        if self.intended is None or not column.sum():
            return None
        return float((column / column.sum() - column.new_tensor(self.intended)).abs().sum() / 2)

    def report(self, counts: Tensor) -> dict[str, Any]:
        """`counts` as a table; shares sum to 1."""
        documents, tokens = counts[:-1].sum(dim=0).tolist()
        intended = self.intended or [None] * len(self.numbers)
        cells = [
            {
                "op": cell.op, "context": cell.context, "mode": cell.mode, "documents": n, "tokens": t,
                "share_of_examples": n / max(documents, 1), "share_of_tokens": t / max(tokens, 1),
                "intended": share,
            }
            for cell, (n, t), share in zip(self.numbers, counts[:-1].tolist(), intended, strict=True)
        ]  # fmt: skip
        return {
            "documents": documents, "tokens": tokens, "dropped": int(counts[-1, 0]), "share_of": self.share_of,
            "distance": self.distance(counts), "cells": cells,
        }  # fmt: skip
