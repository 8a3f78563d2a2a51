"""The norm of the gradient before clipping."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer


class GradientNorm(Callback):
    """Log `train/gradient_norm`: the 2-norm over all parameters of the gradient of the global batch, before clipping."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure if Lightning logs this step."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            pl_module.log("train/gradient_norm", getattr(norm, "full_tensor", lambda: norm)())
