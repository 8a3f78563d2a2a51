"""The entropy of the policy, and a stop when it collapses."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from callbacks.kept_state import KeptState
from callbacks.processes import sum_over_processes


class EntropyMonitor(KeptState):
    """Log `train/entropy_nats`: the policy's entropy per token, as the mean of -log pi over the tokens that it sampled.

    An unbiased estimate at the sampling temperature, at no extra cost; under top_p or top_k it is biased. All groups of a rollout
    count, also those without signal, but not those that `resample` replaced. A policy whose entropy collapses repeats the same
    samples and stops learning.

    Args:
        floor: stop training if the entropy stays below; None: never.
        patience: rollouts in a row below the floor before training stops.
    """

    kept = ("below",)

    def __init__(self, floor: float | None = None, patience: int = 10) -> None:
        if patience < 1:
            raise ValueError(f"EntropyMonitor: patience={patience} must be at least 1.")
        self.floor, self.patience = floor, patience
        self.below = 0  # rollouts in a row below the floor

    @property
    def done(self) -> bool:
        """Whether it has been low for too long."""
        return self.floor is not None and self.below >= self.patience

    def on_rollout(self, trainer: Trainer, pl_module: LightningModule, groups: Sequence[Any]) -> dict[str, float]:
        """Measure, and stop if it has been low for too long."""
        surprise = -sum(sum(group.logp) for group in groups)
        tokens = sum(len(ids) for group in groups for ids in group.completions)
        nats, count = sum_over_processes(trainer, [surprise, tokens])
        entropy = nats / count
        if self.floor is not None:
            self.below = self.below + 1 if entropy < self.floor else 0
            if self.done:
                rank_zero_warn(
                    f"EntropyMonitor: {entropy:.3g} nats per token, {self.below} rollouts below {self.floor:g}; training stops."
                )
                trainer.should_stop = True
        return {"train/entropy_nats": entropy}
