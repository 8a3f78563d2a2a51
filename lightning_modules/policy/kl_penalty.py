"""How the divergence from the reference policy is measured and charged."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lightning_modules.formulas import adapted_weight, kl_k1, kl_k2, kl_k3, with_kl_gradient

_ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


@dataclass(frozen=True)
class KLPenalty:
    """Estimator, place and control of beta KL(pi || ref).

    estimator:       see algorithms/kl.py.
    place:           "loss": a term of every token; "reward": taken off what each token earns.
    exact_gradient:  in the loss, the gradient of KL(pi || ref) itself under any estimator.
    target:          nats per token that beta is steered to, rollout by rollout; None: beta is fixed.
    gain:            how fast beta follows.
    reference_decay: 1: the reference stays where the policy started; below: after each rollout it keeps this share of itself
                     and takes the rest from the policy.
    """

    estimator: Literal["k1", "k2", "k3"] = "k3"
    place: Literal["loss", "reward"] = "loss"
    exact_gradient: bool = False
    target: float | None = None
    gain: float = 0.1
    reference_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a penalty that does nothing or cannot be steered to."""
        if self.estimator == "k1" and self.place == "loss" and not self.exact_gradient:
            raise ValueError("kl: k1 in the loss has no gradient in the mean; set `exact_gradient: true`, or take k2 or k3.")
        if self.exact_gradient and self.place == "reward":
            raise ValueError("kl: a penalty in the reward has no gradient; leave out `exact_gradient`, or put it in the loss.")
        if self.target is not None and not (self.target > 0 and 0 < self.gain < 5):
            raise ValueError(
                f"kl: target={self.target} must be above 0 and gain={self.gain} within 0 and 5 (beta stays above 0)."
            )
        if not 0 <= self.reference_decay <= 1:
            raise ValueError(f"kl: reference_decay={self.reference_decay} must be within 0 and 1 (1: it never moves).")

    def terms(self, logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
        """[N, T] nats, with the gradient that is asked for."""
        kl_NT = _ESTIMATORS[self.estimator](logp_NT, logp_ref_NT)
        return with_kl_gradient(kl_NT, logp_NT, logp_ref_NT) if self.exact_gradient else kl_NT

    def next_weight(self, weight: float, measured: float) -> float:
        """Beta after a rollout on which `measured` nats per token were found."""
        if self.target is None:
            return weight
        return adapted_weight(weight, measured, target=self.target, gain=self.gain)
