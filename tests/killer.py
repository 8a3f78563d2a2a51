"""A callback that kills its process at a chosen moment, or sends it a signal; named by class_path in the configs of tests."""

import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback

import callbacks.records.checkpoint
from lightning_modules.rewards import Reward


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class LengthReward(Reward):
    """Longer is better: varies within every group, so that weights move."""

    def __call__(self, response, report):
        return {"length": float(len(response))}


class Killer(Callback):
    """SIGKILL, by moment: "batch" (after so many), "write" (a checkpoint half written), "rename" (written, not yet renamed),
    "end" (training is over and nothing written but its last checkpoint).

    A moment named as a signal ("SIGTERM"): that signal, after so many batches, to the first process.
    """

    def __init__(self, moment: str, updates: int) -> None:
        self.moment, self.updates, self.sent = moment, updates, False

    def on_train_end(self, trainer, pl_module):
        if self.moment == "end":
            die()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step < self.updates:
            return
        if self.moment == "batch":
            die()
        reached = trainer.global_step == self.updates and trainer.is_global_zero
        if self.moment.startswith("SIG") and reached and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.Signals[self.moment])
        if self.moment == "rename":
            callbacks.records.checkpoint._put = lambda part, path: die()
        if self.moment == "write":

            def half(checkpoint, path, storage_options=None):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(b"PK half a checkpoint")
                die()

            trainer.strategy.checkpoint_io.save_checkpoint = half
