"""Critics: the expected reward of a response from a token on."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from lightning_modules.models.language_model import disable_dropout
from lightning_modules.models.row_layouts import Layout
from lightning_modules.models.sharding import shard


class Critic(nn.Module):
    """A linear head, initially 0, on hidden states of a language model, in float32. Subclasses choose the model.

    shares: whether the model is the policy's.
    """

    shares: bool
    head: nn.Linear

    def configure(
        self, policy: PreTrainedModel, init_from: str, load: Callable[[str], PreTrainedModel], mesh: DeviceMesh | None, *,
        half: bool = False,
    ) -> None:  # fmt: skip
        """Build the parameters.

        Args:
            policy: the policy's model.
            init_from: its initial weights.
            load: opens weights.
            mesh: to shard parameters over; None: no sharding.
            half: gather sharded weights as bfloat16.
        """
        self.head = nn.Linear(policy.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if mesh is not None:
            fully_shard(self.head, mesh=mesh["data_parallel"])

    @abstractmethod
    def forward(self, layout: Layout, states_PH: Tensor | None) -> Tensor:
        """Values before the token that follows each position.

        Args:
            layout: the rows, with P outputs.
            states_PH: the policy's last hidden states if `shares`, else None.

        Returns:
            [P], reward units.
        """

    def value(self, states_PH: Tensor) -> Tensor:
        """[P, H] states -> [P] values."""
        with torch.autocast(states_PH.device.type, enabled=False):
            return self.head(states_PH.float()).squeeze(-1)


class SharedCritic(Critic):
    """A head on the policy's states, which its loss also trains. Costs almost nothing."""

    shares = True

    def forward(self, layout: Layout, states_PH: Tensor | None) -> Tensor:
        """See `Critic`."""
        return self.value(states_PH)


class SeparateCritic(Critic):
    """A separate model, from the policy's initial weights or others. Costs as much as the policy.

    Args:
        init_from: weights to start from; None: the policy's.
    """

    shares = False

    def __init__(self, init_from: str | None = None) -> None:
        super().__init__()
        self.init_from = init_from

    def configure(
        self, policy: PreTrainedModel, init_from: str, load: Callable[[str], PreTrainedModel], mesh: DeviceMesh | None, *,
        half: bool = False,
    ) -> None:  # fmt: skip
        """Build the parameters; see `Critic`."""
        self.model = load(self.init_from or init_from).base_model  # without the language model's head
        disable_dropout(self.model)
        if mesh is not None:
            shard(self.model, mesh, half=half)
        super().configure(self.model, init_from, load, mesh, half=half)

    def forward(self, layout: Layout, states_PH: Tensor | None) -> Tensor:
        """See `Critic`."""
        return self.value(layout.states(self.model))
