"""Verified pass@k of held-out problems, by band and by number of operations."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from callbacks.files import write_text

MOST_OPS = 128


class MeanByOp(Metric):
    """Sums and counts per number of operations; adding them up is all that several processes need."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        for name in ("total", "squares", "count"):
            self.add_state(name, torch.zeros(MOST_OPS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values_B: Tensor, ops_B: Tensor) -> None:
        """Add [B] values of problems with [B] int64 operations."""
        values_B, ops_B = values_B.to(self.total), ops_B.to(self.device)
        self.total.index_add_(0, ops_B, values_B)
        self.squares.index_add_(0, ops_B, values_B.square())
        self.count.index_add_(0, ops_B, torch.ones_like(values_B))

    def compute(self) -> Tensor:
        """[3, MOST_OPS]: sums, sums of squares, counts."""
        return torch.stack([self.total, self.squares, self.count])


def summary(sums_3O: Tensor, ops: list[int]) -> dict[str, float]:
    """Mean and standard error over the problems with `ops` operations, and their number."""
    total, squares, count = sums_3O[:, ops].sum(dim=1).tolist()
    mean = total / count if count else float("nan")
    variance = max(0.0, squares / count - mean**2) if count else float("nan")
    return {"mean": mean, "standard_error": (variance / max(1.0, count - 1)) ** 0.5, "problems": int(count)}


class VerifiedPassAtK(Callback):
    """Log `STAGE/GRADER/pass@K/BAND` and `.../opN`; after a test, also write them to `pass_at_k.json` in the run's folder.

    Reads of a step's outputs: `rollout.examples`, `passed` (grader -> [B] accepted samples), `n`, `pass_at_k`;
    of the data module: `bands`.
    """

    def __init__(self, ks: tuple[int, ...] = (1, 8)) -> None:
        """Keep the settings; a k above the number of samples is left out."""
        self.ks = ks
        self.means: dict[tuple[str, int], MeanByOp] = {}

    def _start(self, *args: object) -> None:
        self.means = {}

    on_validation_epoch_start = on_test_epoch_start = _start

    def _add(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        if "rollout" not in outputs:
            return
        ops = torch.tensor([example.cell.op for example in outputs["rollout"].examples])
        for grader, passed in outputs["passed"].items():
            for k in self.ks:
                if k <= outputs["n"]:
                    mean = self.means.setdefault((grader, k), MeanByOp().to(pl_module.device))
                    mean.update(outputs["pass_at_k"](passed, n=outputs["n"], k=k), ops)

    on_validation_batch_end = on_test_batch_end = _add

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for (grader, k), metric in self.means.items():
            sums = metric.compute().cpu()
            present = sums[2].nonzero().flatten().tolist()
            groups = trainer.datamodule.bands | {f"op{op}": [op] for op in present}
            for group, ops in groups.items():
                table.setdefault(group, {}).setdefault(grader, {})[f"pass@{k}"] = values = summary(sums, ops)
                pl_module.log(f"{stage}/{grader}/pass@{k}/{group}", values["mean"], rank_zero_only=True)
        return table

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and write."""
        table = self._finish(trainer, pl_module, "test")
        if trainer.is_global_zero and table:
            write_text(Path(trainer.log_dir or trainer.default_root_dir) / "pass_at_k.json", json.dumps(table, indent=1))
