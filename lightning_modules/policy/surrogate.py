"""The surrogate as a part of a policy: what each sampled token adds to the objective. The default, `Clip`, is in trust_region.py.

Not here: formulas (formulas/surrogates.py), ratios and means (grpo.py), penalties (trust_region.py).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_modules.formulas import (
    binary_divergence,
    cispo_surrogate,
    clipped_surrogate,
    clipped_tokens,
    covariance_terms,
    drawn_within,
    highest,
    sapo_surrogate,
    strays,
)


@dataclass(frozen=True, slots=True)
class UpdateTokens:
    """The sampled tokens of an update, [N, T] each.

    log_ratio_NT: log rho, nats, with gradient; of the token, or of its completion (GSPO).
    advantage_NT: advantages.
    logp_NT:      log pi under the policy that learns, nats, with gradient.
    logp_old_NT:  the same under the policy that sampled.
    mask_NT:      bool, true at sampled tokens.
    """

    log_ratio_NT: Tensor
    advantage_NT: Tensor
    logp_NT: Tensor
    logp_old_NT: Tensor
    mask_NT: Tensor


class PolicyLoss(ABC):
    """A surrogate of the policy gradient. Put a new subclass in a separate file: `policy_loss: {class_path: ...}`.

    whole_rollout: whether tokens without advantage matter too; otherwise completions that have none are left out.
    """

    whole_rollout: ClassVar[bool] = False

    @abstractmethod
    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """[N, T] the objective to maximise, of each token."""

    def held_back(self, tokens: UpdateTokens) -> Tensor:
        """[N, T] bool: tokens that the trust region leaves without gradient; their share is logged as `train/clipped`."""
        return torch.zeros_like(tokens.mask_NT)


@dataclass(frozen=True)
class CISPO(PolicyLoss):
    """sg( min(rho, most) ) A log pi: every token keeps a gradient, with a bounded weight (arXiv:2506.13585).

    Args:
        most: bound of the ratio.
    """

    most: float = 5.0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"{self}: the bound of the ratio must be at least 1, its value before any update.")

    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """See `cispo_surrogate`."""
        return cispo_surrogate(tokens.log_ratio_NT, tokens.logp_NT, tokens.advantage_NT, most=self.most)


@dataclass(frozen=True)
class SAPO(PolicyLoss):
    """4 / tau sigmoid(tau (rho - 1)) A: a gradient that fades instead of ending (arXiv:2511.20347).

    Args:
        gain: tau of tokens with positive advantage.
        loss: tau of the others; larger fades faster.
    """

    gain: float = 1.0
    loss: float = 1.05

    def __post_init__(self) -> None:
        if min(self.gain, self.loss) <= 0:
            raise ValueError(f"{self}: both must be above 0.")

    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """See `sapo_surrogate`."""
        return sapo_surrogate(tokens.log_ratio_NT, tokens.advantage_NT, gain=self.gain, loss=self.loss)


@dataclass(frozen=True)
class DivergenceMask(PolicyLoss):
    """rho A, without tokens that A pushes on although pi is already far from pi_old (DPPO, arXiv:2602.04879).

    Far is meant in probability: a ratio of 2 is little for a token of probability 1e-4, which clipping would hold back.

    Args:
        bound: divergence above which a token is left out.
        kind: "tv", |pi - pi_old|; "kl", KL of "this token or another", nats.
    """

    bound: float = 0.15
    kind: Literal["tv", "kl"] = "tv"

    def __post_init__(self) -> None:
        if self.bound <= 0 or self.kind not in ("tv", "kl"):
            raise ValueError(f"{self}: the bound must be above 0, and the kind tv or kl.")

    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """The tokens left have their ratio's gradient."""
        return torch.where(self.held_back(tokens), 0.0, tokens.log_ratio_NT.exp() * tokens.advantage_NT)

    def held_back(self, tokens: UpdateTokens) -> Tensor:
        """See `strays`."""
        divergence_NT = binary_divergence(tokens.logp_NT, tokens.logp_old_NT, kind=self.kind)
        return strays(tokens.log_ratio_NT.detach(), tokens.advantage_NT, divergence_NT, bound=self.bound)


@dataclass(frozen=True)
class ClipCov(PolicyLoss):
    """The clipped surrogate, without a few tokens whose covariance of log pi and A is high (arXiv:2505.22617).

    Those tokens lower the entropy most. They are drawn at random, so two runs of a seed agree only with the same draws before.

    Args:
        share: of the tokens of a batch, at least one.
        low: smallest covariance drawn from, nats x advantage.
        high: largest.
        clip: the interval's half-width.
    """

    share: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    clip: float = 0.2
    whole_rollout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.low < self.high and 0 < self.clip < 1):
            raise ValueError(f"{self}: need 0 < share <= 1, low < high and 0 < clip < 1.")

    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """Tokens drawn add 0."""
        covariance_NT = covariance_terms(tokens.logp_NT, tokens.advantage_NT, tokens.mask_NT)
        free_NT = covariance_NT.masked_fill(self.held_back(tokens), -torch.inf)  # not those that the clip holds anyway
        drawn_NT = drawn_within(free_NT, count=_count(self.share, tokens.mask_NT), low=self.low, high=self.high)
        gain_NT = clipped_surrogate(tokens.log_ratio_NT, tokens.advantage_NT, low=self.clip, high=self.clip)
        return torch.where(drawn_NT, 0.0, gain_NT)

    def held_back(self, tokens: UpdateTokens) -> Tensor:
        """By the clip."""
        return clipped_tokens(tokens.log_ratio_NT.detach(), tokens.advantage_NT, low=self.clip, high=self.clip)


@dataclass(frozen=True)
class KLCov(PolicyLoss):
    """rho A, less weight |log rho| for the few tokens of highest covariance of log pi and A (arXiv:2505.22617).

    |log rho| is 0 without gradient where pi = pi_old: it acts from the second update of a rollout on.

    Args:
        share: of the tokens of a batch, at least one.
        weight: of the penalty.
    """

    share: float = 2e-4
    weight: float = 1.0
    whole_rollout: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.weight > 0):
            raise ValueError(f"{self}: need 0 < share <= 1 and a weight above 0.")

    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """The penalty is on the tokens chosen alone."""
        covariance_NT = covariance_terms(tokens.logp_NT, tokens.advantage_NT, tokens.mask_NT)
        chosen_NT = highest(covariance_NT, count=_count(self.share, tokens.mask_NT))
        penalty_NT = torch.where(chosen_NT, (tokens.logp_NT - tokens.logp_old_NT).abs(), 0.0)
        return tokens.log_ratio_NT.exp() * tokens.advantage_NT - self.weight * penalty_NT


def _count(share: float, mask_NT: Tensor) -> int:
    return max(1, int(share * int(mask_NT.sum())))
