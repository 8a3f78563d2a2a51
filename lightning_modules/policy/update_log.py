"""What Lightning logs of an update: values of its minibatches taken together, and those of the rollout behind it."""

from collections.abc import Callable, Mapping

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
        self.values: dict[str, tuple[int, Tensor]] = {}  # name -> update, and its sum and count, or its maximum
        self.of_rollouts: set[str] = set()

    def mean(self, name: str, terms_NT: Tensor, mask_NT: Tensor) -> None:
        """Log the mean over all tokens of an update: of all processes, and of the minibatches that it accumulates."""
        self.add(name, torch.where(mask_NT, terms_NT, 0.0).sum(), mask_NT.sum())

    def add(self, name: str, total: Tensor, count: Tensor | float = 1.0) -> None:
        """Log the sum of totals over the sum of counts, over all processes and minibatches of an update."""
        mine = torch.stack([total.detach().double(), torch.as_tensor(count, device=total.device).double()])
        found = self._so_far(name, self._of_all(mine, "sum"), torch.add)
        self.module.log(name, (found[0] / found[1].clamp(min=1)).float())

    def most(self, name: str, value: Tensor) -> None:
        """Log the maximum over all processes and minibatches of an update."""
        self.module.log(name, self._so_far(name, self._of_all(value.detach(), "max"), torch.maximum), reduce_fx="max")

    def _of_all(self, mine: Tensor, how: str) -> Tensor:
        return self.module.trainer.strategy.reduce(mine, reduce_op=how)

    def _so_far(self, name: str, value: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The value joined with those of earlier minibatches of the same update."""
        update, before = self.module.trainer.global_step, self.values.get(name)
        joined = join(before[1], value) if before is not None and before[0] == update else value
        self.values[name] = (update, joined)
        return joined

    def rollout(self, values: Mapping[str, float]) -> None:
        """Log statistics of a rollout; those that only an earlier one had, which Lightning would repeat, are left out."""
        for name in self.of_rollouts - values.keys():
            if (metric := self.module.trainer._results.get(f"training_step.{name}")) is not None:
                metric.has_reset = True
        self.of_rollouts |= values.keys()
        self.module.log_dict(dict(values))
