"""Peak memory of training."""

import resource
import sys
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

GIB = 2**30


class Memory(Callback):
    """Log `train/memory_gib`: the peak since the last log of what torch allocates on the GPU; on a CPU, of the whole process."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: object) -> None:
        """Log if Lightning logs this step."""
        if trainer.global_step % trainer.log_every_n_steps == 0:
            pl_module.log("train/memory_gib", peak_memory(pl_module.device) / GIB)


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak; on a GPU the peak is then reset."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
