"""What training cost in tokens and FLOPs, as run and by the paper's nominal formula."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.files import write_run_file
from callbacks.processes import sum_over_processes


class ComputeLedger(Callback):
    """Write `compute.json` when training ends: the cost of all processes, and of all parts of a run that was resumed.

    It reads the module's `compute` (what this process has run so far) and `ledger` (sums -> tokens, FLOPs, nominal cost).
    """

    def __init__(self) -> None:
        self.before: dict[str, Any] = {"phases": {}, "nominal_tokens": 0.0}

    def total(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Sums over processes and over earlier parts of a resumed run; every process must call this."""
        state = pl_module.compute.state()
        phases = sorted({*state["phases"], *self.before["phases"]})
        counts = [state["nominal_tokens"], *(n for phase in phases for n in state["phases"].get(phase, (0.0, 0.0)))]
        sums = sum_over_processes(trainer, counts)
        total = {"phases": {}, "nominal_tokens": sums[0] + self.before["nominal_tokens"]}
        for i, phase in enumerate(phases):
            earlier = self.before["phases"].get(phase, (0.0, 0.0))
            total["phases"][phase] = [sums[2 * i + 1] + earlier[0], sums[2 * i + 2] + earlier[1]]
        return total

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the sums."""
        checkpoint["compute"] = self.total(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue from the sums."""
        self.before = checkpoint.get("compute", self.before)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the ledger."""
        write_run_file(trainer, "compute.json", pl_module.ledger(self.total(trainer, pl_module)))
