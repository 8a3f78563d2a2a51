"""The policy that another is kept close to: where it started, or a slow average of itself."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from lightning_modules.models.language_model import load_language_model


class ReferencePolicy:
    """The weights of `init_from`, loaded when first asked for; then w_ref <- decay w_ref + (1 - decay) w at every `follow`.

    No module on purpose: frozen weights are those of `init_from` and have no place in a checkpoint.
    """

    def __init__(self, init_from: str, decay: float = 1.0) -> None:
        """Keep the settings; `decay` 1 never moves, 0 is always the policy of the rollout before."""
        self.init_from, self.decay = init_from, decay
        self.model: PreTrainedModel | None = None

    def on(self, device: torch.device) -> PreTrainedModel:
        """The reference on `device`, without gradients."""
        if self.model is None:
            self.model = load_language_model(self.init_from).eval().requires_grad_(False)
        return self.model.to(device)

    @torch.no_grad()
    def follow(self, policy: nn.Module, device: torch.device) -> None:
        """Go a step towards `policy`; where that is sharded, every process must call this."""
        if self.decay == 1:
            return
        for mine, theirs in zip(self.on(device).parameters(), policy.parameters(), strict=True):
            whole = theirs.full_tensor() if isinstance(theirs, DTensor) else theirs
            mine.lerp_(whole.to(mine.dtype), 1 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights that are found nowhere else; none for a frozen reference."""
        return {} if self.decay == 1 or self.model is None else self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        if state:
            self.on(torch.device("cpu")).load_state_dict(state)
