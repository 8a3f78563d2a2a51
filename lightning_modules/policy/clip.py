"""How far a policy may go from the one that sampled before its gradient is cut off."""

from dataclasses import dataclass

from torch import Tensor

from lightning_modules.formulas import clipped_surrogate, clipped_tokens


@dataclass(frozen=True)
class Clip:
    """The interval 1 - low ... 1 + high in which the ratio pi / pi_old is trusted.

    low:  how far below 1.
    high: how far above; None: as below. More than below is DAPO's clip-higher.
    dual: bound on the ratio of tokens with negative advantage (dual-clip PPO); None: no bound.
    """

    low: float = 0.2
    high: float | None = None
    dual: float | None = None

    def __post_init__(self) -> None:
        """Refuse an interval that does not hold 1, and a dual bound inside it."""
        if not 0 < self.low < 1 or self.above <= 0 or (self.dual is not None and self.dual <= 1 + self.above):
            raise ValueError(f"{self}: need 0 < low < 1, high above 0 and dual above 1 + high.")

    @property
    def above(self) -> float:
        """How far above 1."""
        return self.low if self.high is None else self.high

    def surrogate(self, log_ratio_NT: Tensor, advantage_NT: Tensor) -> Tensor:
        """[N, T] what is to be maximised; see `clipped_surrogate`."""
        return clipped_surrogate(log_ratio_NT, advantage_NT, low=self.low, high=self.above, dual=self.dual)

    def holds_back(self, log_ratio_NT: Tensor, advantage_NT: Tensor) -> Tensor:
        """[N, T] bool: tokens without gradient; see `clipped_tokens`."""
        return clipped_tokens(log_ratio_NT, advantage_NT, low=self.low, high=self.above, dual=self.dual)
