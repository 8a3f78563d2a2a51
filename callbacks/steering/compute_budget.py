"""A stop when a run has used up its compute."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.records.run_record import ComputeLedger


class ComputeBudget(Callback):
    """Stop training after the update that exceeds a budget; of several, the first. Evaluation costs nothing, nor does what a
    stage samples before it trains on own solutions, though its `compute.json` counts that.

    Logs `train/compute_tokens` and `train/compute_flops`: what the run has cost so far, all phases and processes together.
    It reads the run's ComputeLedger, so a resumed run counts from its start. `trainer.max_steps` still holds, and schedules
    end there, not where a budget stops the run: use a constant one, or `max_steps` near the budget.
    docs/evaluation.md says what is counted.

    Args:
        max_tokens: real tokens that went through a model, of all phases: updates, rollouts, probes ...
        max_flops: as run.
        max_nominal_tokens: training tokens by the paper's formula.
        every_n_steps: updates between two checks, each of which waits for the device.
    """

    def __init__(
        self, max_tokens: float | None = None, max_flops: float | None = None, max_nominal_tokens: float | None = None,
        every_n_steps: int = 1,
    ) -> None:  # fmt: skip
        self.limits = {"tokens": max_tokens, "flops": max_flops, "nominal_tokens": max_nominal_tokens}
        self.limits = {name: limit for name, limit in self.limits.items() if limit is not None}
        if not self.limits or min(self.limits.values()) <= 0 or every_n_steps < 1:
            raise ValueError(
                "ComputeBudget: set max_tokens, max_flops or max_nominal_tokens above 0, and every_n_steps to at least 1."
            )
        self.every_n_steps = every_n_steps
        self.spent: dict[str, float] = {}
        self.checked_at = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the ledger."""
        if stage == "fit":
            self.ledger = next((callback for callback in trainer.callbacks if isinstance(callback, ComputeLedger)), None)
            if self.ledger is None:
                raise ValueError("ComputeBudget: there is no ledger to read; add callbacks.ComputeLedger to `trainer.callbacks`.")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check; an earlier part of the run may have spent the budget."""
        self._check(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Check after an update, and log."""
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self.checked_at:
            self._check(trainer, pl_module)
        pl_module.log_dict({f"train/compute_{name}": self.spent[name] for name in ("tokens", "flops") if name in self.spent})

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.checked_at = trainer.global_step
        self.spent = spent(pl_module.ledger(self.ledger.total(trainer, pl_module)))
        if "flops" in self.limits and "flops" not in self.spent:
            raise ValueError("ComputeBudget: FLOPs of this architecture are not known; set `max_tokens` instead of `max_flops`.")
        if any(self.spent[name] >= limit for name, limit in self.limits.items()):
            trainer.should_stop = True


def spent(ledger: dict[str, Any]) -> dict[str, float]:
    """Tokens, FLOPs (where known) and nominal tokens of a ledger, all phases together."""
    found = {
        "tokens": float(sum(phase["tokens"] for phase in ledger["phases"].values())), "flops": ledger["flops"],
        "nominal_tokens": ledger["nominal_tokens"],
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}
