"""What training drew, by cell: evidence of a run's mixture."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from callbacks.files import write_run_file


class MixtureRecord(Callback):
    """Write `mixture.json`: documents and tokens that all processes drew, by operations x context x mode, and the shares
    that were intended. Log `train/mixture_distance`, the total variation distance between the two.

    It reads the data module's `drawn` (`plan`, `take()`, `distance(counts)`, `report(counts)`), and does nothing without it.
    Checkpoints hold the counts, so those of a resumed run cover the whole run.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None  # of all processes, up to the last sum
        self.since: Tensor | None = None  # of this process, since then
        self.restored: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the counts until training starts."""
        self.restored = checkpoint.get("mixture")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue from there.

        Raises:
            ValueError: the checkpoint's counts are of another mixture.
        """
        drawn = getattr(trainer.datamodule, "drawn", None)
        if drawn is not None and self.restored is not None:
            if self.restored.get("plan") != drawn.plan:
                raise ValueError(
                    "the checkpoint was trained on another mixture or on other files, or is of an earlier version; resume it "
                    "with the `data` it had, or start from its weights with `model.init_args.init_from`."
                )
            self.total = self.restored["counts"]
        self.restored = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Add what the batch was drawn from; if Lightning logs this step, log the distance."""
        if (drawn := getattr(trainer.datamodule, "drawn", None)) is None:
            return
        counts = drawn.take()
        self.since = counts if self.since is None else self.since + counts
        if trainer.global_step and trainer.global_step % trainer.log_every_n_steps == 0:
            distance = drawn.distance(self._sum(trainer))
            if distance is not None:
                pl_module.log("train/mixture_distance", distance)

    def _sum(self, trainer: Trainer) -> Tensor:
        """Counts of all processes; every process must call this."""
        found = trainer.strategy.reduce(self.since.to(trainer.strategy.root_device), reduce_op="sum").cpu()
        self.total = found if self.total is None else self.total + found
        self.since = torch.zeros_like(self.total)
        return self.total

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the counts, and write them."""
        if self.since is not None:
            drawn, counts = trainer.datamodule.drawn, self._sum(trainer)
            checkpoint["mixture"] = {"plan": drawn.plan, "counts": counts}
            write_run_file(trainer, "mixture.json", drawn.report(counts))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the counts."""
        if self.since is not None:
            write_run_file(trainer, "mixture.json", trainer.datamodule.drawn.report(self._sum(trainer)))
