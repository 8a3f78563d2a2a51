"""The weight of the KL penalty, steered so that the policy strays as far from its reference as it is meant to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.processes import sum_over_processes


class KLControl(Callback):
    """Once per rollout, beta <- beta (1 + gain clip(KL / target - 1, -0.2, 0.2)), within bounds (arXiv:1909.08593, section 2.2).

    KL is the mean of `train/kl_nats` over the training steps of the rollout before. Of the module it asks for `beta` above 0,
    where the weight starts, and it sets `kl_weight`, which the penalty takes and the module logs. `kl.target` of the module does
    the same without bounds, by what a rollout strays before it is learnt from; one of the two may steer.
    """

    def __init__(self, target: float, gain: float = 0.1, lowest: float = 0.0, highest: float = float("inf")) -> None:
        """Keep the settings.

        Args:
            target: nats per token.
            gain: how fast the weight follows.
            lowest: the weight does not fall below.
            highest: nor rise above.
        """
        if target <= 0 or not 0 < gain < 5 or not 0 <= lowest <= highest:
            raise ValueError(
                f"KLControl: target={target} must be above 0, gain={gain} within 0 and 5 (the weight stays above 0), and "
                f"0 <= {lowest=} <= {highest=}."
            )
        self.target, self.gain, self.lowest, self.highest = target, gain, lowest, highest
        self.weight: float | None = None
        self.measured: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """The weight, and what was measured since it was set."""
        return {"weight": self.weight, "measured": list(self.measured)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.weight, self.measured = state["weight"], list(state["measured"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the weight."""
        if not getattr(pl_module, "beta", 0):
            raise ValueError("KLControl: there is no penalty to steer; set `model.init_args.beta` above 0.")
        if pl_module.kl.target is not None:
            raise ValueError("KLControl: `model.init_args.kl.target` steers the weight already; set one of the two.")
        self._set(pl_module, pl_module.beta if self.weight is None else self.weight)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Keep what this step measured."""
        self.measured.append(trainer.callback_metrics["train/kl_nats"].item())

    def on_rollout(self, trainer: Trainer, pl_module: LightningModule, groups: Sequence[Any]) -> None:
        """Steer."""
        total, steps = sum_over_processes(trainer, [sum(self.measured), len(self.measured)])
        self.measured.clear()
        if steps:
            rule = replace(pl_module.kl, target=self.target, gain=self.gain)
            self._set(pl_module, rule.next_weight(self.weight, total / steps))

    def _set(self, pl_module: LightningModule, weight: float) -> None:
        self.weight = pl_module.kl_weight = max(self.lowest, min(self.highest, weight))
