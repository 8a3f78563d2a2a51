"""How far a policy may move: from the one that sampled (clip), and from a reference policy (KL penalty)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from transformers import PreTrainedModel

from lightning_modules.formulas import adapted_weight, clipped_surrogate, clipped_tokens, kl_k1, kl_k2, kl_k3, with_kl_gradient
from lightning_modules.models.lora import adapted, without_adapters
from lightning_modules.models.sharding import reshard, whole
from lightning_modules.policy.surrogate import PolicyLoss, UpdateTokens

_ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


@PolicyLoss.register  # not a subclass: its fields are settings that a config names without a class
@dataclass(frozen=True)
class Clip:
    """The clipped surrogate, the default: the ratio pi / pi_old is trusted within 1 - low ... 1 + high.

    Args:
        low: how far below 1.
        high: how far above 1; None: `low`. More than `low` is DAPO's clip-higher (arXiv:2503.14476, 3.1).
        dual: bound on the ratio of tokens with negative advantage (dual-clip PPO, arXiv:1912.09729); None: no bound.
    """

    low: float = 0.2
    high: float | None = None
    dual: float | None = None
    whole_rollout: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.low < 1 or self.above <= 0 or (self.dual is not None and self.dual <= 1 + self.above):
            raise ValueError(f"{self}: need 0 < low < 1, high above 0 and dual above 1 + high.")

    @property
    def above(self) -> float:
        """How far above 1."""
        return self.low if self.high is None else self.high

    def surrogate(self, tokens: UpdateTokens) -> Tensor:
        """[N, T] the objective to maximise; see `clipped_surrogate`."""
        return clipped_surrogate(tokens.log_ratio_NT, tokens.advantage_NT, low=self.low, high=self.above, dual=self.dual)

    def held_back(self, tokens: UpdateTokens) -> Tensor:
        """[N, T] bool: tokens without gradient; see `clipped_tokens`."""
        return clipped_tokens(tokens.log_ratio_NT.detach(), tokens.advantage_NT, low=self.low, high=self.above, dual=self.dual)


@dataclass(frozen=True)
class KLPenalty:
    """weight * KL(pi || reference): its estimator, its place, and how its weight adapts.

    Args:
        estimator: see formulas/kl.py.
        place: "loss": a term of every token; "reward": subtracted from the reward of each token.
        exact_gradient: in the loss, use the gradient of KL(pi || reference) itself with any estimator.
        target: nats per token that the weight is adapted to after each rollout (arXiv:1909.08593, 2.2); None: it is fixed.
        gain: how fast the weight adapts.
        reference_decay: 1: the reference is the policy at the start; below 1, after each rollout it keeps this share of itself
            and takes the rest from the policy.
        weight: beta; 0 needs no reference. With a target, the weight at the start.
        bounds: minimum and maximum weight with a target.
        reference: weights of the reference policy, as `init_from` names them: a teacher, of any size, with the policy's tokenizer
            (on-policy distillation, arXiv:2306.13649). None: `init_from`.
        reset_every: rollouts after which the policy becomes its own reference, and the optimiser starts afresh (ProRL,
            arXiv:2505.24864); 0: never.
    """

    estimator: Literal["k1", "k2", "k3"] = "k3"
    place: Literal["loss", "reward"] = "loss"
    exact_gradient: bool = False
    target: float | None = None
    gain: float = 0.1
    reference_decay: float = 1.0
    weight: float = 0.0
    bounds: tuple[float, float] = (0.0, float("inf"))
    reference: str | None = None
    reset_every: int = 0

    def __post_init__(self) -> None:
        if self.reset_every < 0 or (self.reset_every and not self.weight):
            raise ValueError(f"kl: reset_every={self.reset_every} must be at least 0, and needs a reference: set `kl.weight`.")
        if self.reference is not None and (self.reset_every or self.reference_decay < 1 or not self.weight):
            raise ValueError("kl: a teacher (`kl.reference`) stays as it is, and needs `kl.weight`; leave out decay and reset.")
        if self.weight < 0:
            raise ValueError(f"kl: weight={self.weight} must be at least 0.")
        if self.estimator == "k1" and self.place == "loss" and not self.exact_gradient:
            raise ValueError("kl: k1 in the loss has a gradient of mean 0; set `exact_gradient: true`, or use k2 or k3.")
        if self.exact_gradient and self.place == "reward":
            raise ValueError("kl: a penalty in the reward has no gradient; leave out `exact_gradient`, or set `place: loss`.")
        if self.target is not None and not (self.target > 0 and 0 < self.gain < 5 and 0 <= self.bounds[0] <= self.bounds[1]):
            raise ValueError(
                f"kl: target={self.target} must be above 0, gain={self.gain} between 0 and 5 (so that the weight stays above 0), "
                f"and bounds={self.bounds} rise from at least 0."
            )
        if not 0 <= self.reference_decay <= 1:
            raise ValueError(f"kl: reference_decay={self.reference_decay} must lie within 0 and 1 (1: it never moves).")

    def terms(self, logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
        """[N, T] nats, with the configured gradient."""
        kl_NT = _ESTIMATORS[self.estimator](logp_NT, logp_ref_NT)
        return with_kl_gradient(kl_NT, logp_NT, logp_ref_NT) if self.exact_gradient else kl_NT

    def next_weight(self, weight: float, measured: float) -> float:
        """The weight after a rollout with `measured` nats per token."""
        if self.target is None:
            return weight
        return min(max(adapted_weight(weight, measured, target=self.target, gain=self.gain), self.bounds[0]), self.bounds[1])


class ReferencePolicy:
    """The policy's weights at the start; then w_ref <- decay w_ref + (1 - decay) w at every `update`.

    They are loaded, and sharded like the policy, at first use.
    A policy that learns adapters has them at hand: itself without the adapters. A teacher's weights are loaded in any case.
    Not a module, so that frozen weights, which `init_from` holds, do not enter checkpoints.
    """

    def __init__(self, load: Callable[[], PreTrainedModel], decay: float = 1.0, *, teacher: bool = False) -> None:
        self.load, self.decay, self.teacher = load, decay, teacher
        self.moved = decay < 1
        self.model: PreTrainedModel | None = None

    def on(self, device: torch.device) -> PreTrainedModel:
        """The reference on `device`, without gradients."""
        if self.model is None:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):  # weights may be drawn before they are read
                self.model = self.load().eval().requires_grad_(False)
        return self.model.to(device)

    @contextmanager
    def standing_in(self, policy: PreTrainedModel, device: torch.device) -> Iterator[PreTrainedModel]:
        """The reference for a computation without gradients."""
        if adapted(policy) and not self.teacher:
            with without_adapters(policy):
                yield policy
        else:
            yield self.on(device)

    @torch.no_grad()
    def update(self, policy: nn.Module, device: torch.device) -> None:
        """Move towards `policy`."""
        if self.decay == 1:
            return
        for own, theirs in self._pairs(policy, device):
            own.lerp_(theirs.to(own.dtype), 1 - self.decay)

    @torch.no_grad()
    def reset(self, policy: nn.Module, device: torch.device) -> None:
        """Become `policy`."""
        self.moved = True
        for own, theirs in self._pairs(policy, device):
            own.copy_(theirs)

    def _pairs(self, policy: nn.Module, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Its parameters and the policy's, which are sharded alike, if at all."""
        for model in (self.on(device), policy):
            reshard(model)
        return zip(self.model.parameters(), policy.parameters(), strict=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Whole weights that are stored nowhere else, none for a frozen reference; every process must call this."""
        kept = self.model.state_dict() if self.moved and self.model is not None else {}
        return {name: whole(tensor) for name, tensor in kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        if state:
            self.moved = True
            set_model_state_dict(self.on(torch.device("cpu")), state, options=StateDictOptions(full_state_dict=True))
