"""A stop at the peak of a held-out score, with the weights of the peak."""

import math
from typing import Any

from lightning import LightningModule, Trainer

from callbacks.kept_state import KeptState


class StopAtPeak(KeptState):
    """Stop when a held-out score has not risen for some validations, and end the run with the weights that scored best.

    RL raises pass@1 while pass@k may have passed its peak; what the run leaves (`huggingface/`, `last.ckpt`) is the model of the
    peak. The score is one that validation logs, e.g. `val/executable/pass@8/edge`. A copy of the weights is kept in memory and in
    checkpoints.

    Logs `train/peak`, the best score so far.

    Args:
        monitor: name of the score.
        patience: validations in a row without a rise before training stops.
        least_gain: a rise must exceed this.
    """

    kept = ("best", "best_step", "waited", "weights")

    def __init__(self, monitor: str, patience: int = 3, least_gain: float = 0.0) -> None:
        if patience < 1 or least_gain < 0:
            raise ValueError(f"StopAtPeak: patience={patience} must be at least 1, least_gain={least_gain} at least 0.")
        self.monitor, self.patience, self.least_gain = monitor, patience, least_gain
        self.best, self.best_step, self.waited = -math.inf, -1, 0
        self.weights: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sharded weights, of which no process has a copy."""
        if stage == "fit" and getattr(pl_module, "device_mesh", None) is not None:
            raise ValueError("StopAtPeak keeps whole weights; take another strategy, or set `checkpoint.monitor` instead.")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights of a new peak; count validations without one."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        logged = trainer.strategy.broadcast(logged)  # only the first process has them all
        if self.monitor not in logged:
            raise ValueError(f"StopAtPeak: validation logs no {self.monitor!r}, but {', '.join(sorted(logged)) or 'nothing'}.")
        score = logged[self.monitor]
        if score > self.best + self.least_gain:
            self.best, self.best_step, self.waited = score, trainer.global_step, 0
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        else:
            self.waited += 1
            trainer.should_stop = trainer.should_stop or self.done

    @property
    def done(self) -> bool:
        """Whether the score has not risen for too long."""
        return self.waited >= self.patience

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Log."""
        if self.weights:
            pl_module.log("train/peak", self.best)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the peak; the last checkpoint, which is evaluated, holds it too."""
        if not self.weights or self.best_step == trainer.global_step:
            return
        counted = pl_module.state_dict()["tokens_seen"]  # of the whole run
        pl_module.load_state_dict(self.weights | {"tokens_seen": counted})
        for callback in trainer.checkpoint_callbacks:
            if callback.last_model_path:
                callback._save_checkpoint(trainer, callback.last_model_path)
        if trainer.is_global_zero:
            print(f"{self.monitor} was highest at step {self.best_step} ({self.best:.3f}): its weights end the run", flush=True)
