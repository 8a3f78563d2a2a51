"""Where the sampler's probabilities are not the trainer's: how far apart they are, and weights that correct for it."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_modules.formulas import sampler_weights


@dataclass(frozen=True)
class SamplerCorrection:
    """Weigh the surrogate by pi_old / mu, mu being the sampler's probability; see `sampler_weights`.

    Args:
        level: "token", or "sequence" for one weight of a completion.
        mode: "truncate": weights above `most` become `most`; "mask": they become 0.
        most: largest weight.
    """

    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = "truncate"
    most: float = 2.0

    def __post_init__(self) -> None:
        if self.most < 1 or self.level not in ("token", "sequence") or self.mode not in ("truncate", "mask"):
            raise ValueError(f"{self}: level is token or sequence, mode truncate or mask, and most at least 1.")

    def weights(self, logp_old_NT: Tensor, logp_sampled_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """[N, T] weights without gradient."""
        return sampler_weights(logp_old_NT, logp_sampled_NT, mask_NT, level=self.level, mode=self.mode, most=self.most)


def sampler_gap(logp_old_NT: Tensor, logp_sampled_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """[N, T] |log pi_old - log mu| of sampled tokens, nats, so that gaps of opposite sign do not cancel; else 0."""
    return torch.where(mask_NT, (logp_old_NT - logp_sampled_NT).abs(), 0.0).detach()
