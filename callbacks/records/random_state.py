"""Random number generators in checkpoints: a resumed run draws what an uninterrupted one would."""

import random
from typing import Any

import numpy
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import distributed


class RandomState(Callback):
    """Save the generators of Python, NumPy, torch and the GPU of every process with each checkpoint.

    A process without a state in the checkpoint (there are more than before) keeps the generators it has.
    """

    def __init__(self) -> None:
        self.restored: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """States by process; every process must call this."""
        states = [_state()]
        if distributed.is_available() and distributed.is_initialized():
            states = [None] * distributed.get_world_size()
            distributed.all_gather_object(states, _state())
        return {"states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep them until training starts."""
        self.restored = state["states"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore this process's generators."""
        if trainer.global_rank < len(self.restored):
            _restore(self.restored[trainer.global_rank])
        self.restored = []


def _state() -> dict[str, Any]:
    kind, keys, *rest = numpy.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype("int64")), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
