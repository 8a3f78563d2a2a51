"""Signs that training goes wrong: losses or weights that are not finite, and the norm of the gradient."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from callbacks.files import run_folder, write_json
from callbacks.steps import is_logged


class NonFiniteLoss(Callback):
    """Raise FloatingPointError when a loss or a weight is NaN or infinite, and list the batches in `non_finite.rankR.json`.

    Both are checked when Lightning logs and before every checkpoint: this does not wait for the device at every step, and no
    checkpoint holds weights that a NaN has reached, of a loss or of a gradient alone. A policy is checked after every update, as
    it samples next. A batch is a function of its number and the data module's settings.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], batch: object, batch_idx: int
    ) -> None:
        """Keep the loss; check if Lightning logs this step, or sampling comes next."""
        self.seen.append((batch_idx, trainer.global_step, outputs["loss"].detach()))
        if is_logged(trainer, trainer.global_step) or getattr(pl_module, "learns_from_samples", False):
            self._check(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check."""
        self._check(trainer, pl_module)

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Every process must check at the same steps."""
        if not self.seen:
            return
        lost = not _finite(pl_module)
        losses = torch.stack([loss for _, _, loss in self.seen])
        numbers = (~losses.isfinite()).nonzero().flatten().tolist()
        bad = [(*self.seen[i][:2], str(losses[i].item())) for i in numbers]
        self.seen.clear()
        folder = run_folder(trainer)
        if bad or lost:
            rows = [{"batch_idx": batch, "updates_done": step, "loss": loss} for batch, step, loss in bad]
            report = {"rank": trainer.global_rank, "world_size": trainer.world_size, "batches": rows}
            report |= {"updates_done": trainer.global_step, "weights_finite": not lost}
            write_json(folder / f"non_finite.rank{trainer.global_rank}.json", report)
        mend = "Lower the learning rate or clip gradients (`trainer.gradient_clip_val`), and resume from the last checkpoint."
        if trainer.strategy.reduce_boolean_decision(bool(bad), all=False):
            where = f"of batch {bad[0][0]} is {bad[0][2]}" if bad else "of another process is not finite"
            raise FloatingPointError(f"training: the loss {where}; see {folder}/non_finite.rank*.json. {mend}")
        if trainer.strategy.reduce_boolean_decision(lost, all=False):
            step = trainer.global_step
            raise FloatingPointError(
                f"training: losses are finite, but weights are not after update {step}: a gradient was not; see "
                f"{folder}/non_finite.rank*.json. {mend}"
            )


def _finite(module: nn.Module) -> bool:
    """Whether all weights are finite; of sharded ones, those of this process."""
    held = [getattr(p, "to_local", lambda p=p: p)().detach() for p in module.parameters()]
    return not held or bool(torch.stack([part.isfinite().all() for part in held]).all())


class GradientNorm(Callback):
    """Log `train/gradient_norm`: the 2-norm over all parameters of the gradient of the global batch, before clipping."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure if Lightning logs this step."""
        if is_logged(trainer, trainer.global_step + 1):
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            pl_module.log("train/gradient_norm", getattr(norm, "full_tensor", lambda: norm)())
