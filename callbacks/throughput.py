"""Tokens per second, in the progress bar and the log."""

from time import perf_counter
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Throughput(Callback):
    """Log `train/tokens_per_s` of this process: tokens that training steps report in `outputs["tokens"]`, over wall time.

    Time spent validating is left out; sampling a rollout counts. The rate is that of the last `window` steps.
    """

    def __init__(self, window: int = 20) -> None:
        """Keep the settings."""
        self.window = window
        self.steps: list[tuple[float, int]] = []
        self.paused, self.stopped_at = 0.0, 0.0

    def on_train_start(self, *args: object) -> None:
        """Start the clock."""
        self.paused, self.steps = 0.0, [(perf_counter(), 0)]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        """Add a step and log the rate."""
        self.steps.append((perf_counter() - self.paused, int(outputs["tokens"])))
        del self.steps[: -self.window - 1]
        seconds = self.steps[-1][0] - self.steps[0][0]
        rate = sum(tokens for _, tokens in self.steps[1:]) / seconds
        pl_module.log("train/tokens_per_s", rate, prog_bar=True)

    def on_validation_start(self, *args: object) -> None:
        """Stop the clock."""
        self.stopped_at = perf_counter()

    def on_validation_end(self, *args: object) -> None:
        """Let it run on."""
        self.paused += perf_counter() - self.stopped_at
