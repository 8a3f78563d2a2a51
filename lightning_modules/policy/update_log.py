"""What Lightning logs of an update: values of its minibatches taken together, and those of the rollout behind it."""

from collections.abc import Mapping

import torch
from lightning import LightningModule
from torch import Tensor


class UpdateLog:
    """Logs for a policy, in its training step."""

    def __init__(self, module: LightningModule) -> None:
        self.module = module
        self.start()

    def start(self) -> None:
        """Forget what was logged of an earlier run."""
        self.values: dict[str, tuple[int, list[Tensor]]] = {}  # name -> update, and its minibatches' values
        self.of_rollouts: set[str] = set()

    def add(self, name: str, value: Tensor, *, most: bool = False) -> None:
        """Log a value of a minibatch: of those that make one update (`accumulate_grad_batches`) the mean, or the maximum."""
        update = self.module.trainer.global_step
        step, values = self.values.get(name, (-1, []))
        values = [*(values if step == update else []), value.detach()]
        self.values[name] = (update, values)
        found = torch.stack(values)
        self.module.log(name, found.max() if most else found.mean(), sync_dist=True, reduce_fx="max" if most else "mean")

    def rollout(self, values: Mapping[str, float]) -> None:
        """Log statistics of a rollout; those that only an earlier one had, which Lightning would repeat, are left out."""
        for name in self.of_rollouts - values.keys():
            if (metric := self.module.trainer._results.get(f"training_step.{name}")) is not None:
                metric.has_reset = True
        self.of_rollouts |= values.keys()
        self.module.log_dict(dict(values))
