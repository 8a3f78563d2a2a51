"""How sure of itself the policy is."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from callbacks.processes import sum_over_processes


class EntropyMonitor(Callback):
    """Log `train/entropy_nats`: the policy's entropy per token, as the mean of -log pi over the tokens that it sampled.

    An unbiased estimate at the sampling temperature, for which nothing has to be computed; all groups of a rollout count, those
    without signal too, but not those that `resample` replaced; under top_p or top_k it is biased. A policy whose entropy
    collapses samples the same again and again, and learns no more.
    """

    def __init__(self, floor: float | None = None, patience: int = 10) -> None:
        """Keep the settings.

        Args:
            floor: stop training where the entropy stays below; None: never.
            patience: rollouts in a row that it may.
        """
        self.floor, self.patience = floor, patience
        self.below = 0

    def state_dict(self) -> dict[str, int]:
        """Rollouts in a row below the floor."""
        return {"below": self.below}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.below = state["below"]

    def on_rollout(self, trainer: Trainer, pl_module: LightningModule, groups: Sequence[Any]) -> dict[str, float]:
        """Measure, and stop where it has been low for too long."""
        surprise = -sum(sum(group.logp) for group in groups)
        tokens = sum(len(ids) for group in groups for ids in group.completions)
        surprise, tokens = sum_over_processes(trainer, [surprise, tokens])
        entropy = surprise / tokens
        if self.floor is not None:
            self.below = self.below + 1 if entropy < self.floor else 0
            if self.below >= self.patience:
                rank_zero_warn(
                    f"EntropyMonitor: {entropy:.3g} nats a token, for {self.below} rollouts below {self.floor:g}; training stops."
                )
                trainer.should_stop = True
        return {"train/entropy_nats": entropy}
