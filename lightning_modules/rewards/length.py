"""A penalty for long responses."""

from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class LengthPenalty(Reward):
    """0 up to `free` words, then a line down to -weight at `limit` words, and no lower (DAPO, arXiv:2503.14476, eq. 13).

    Words are what white space separates, so that the penalty depends on no tokenizer.

    free:   words that cost nothing.
    limit:  words at which the whole weight is due, above `free`.
    weight: the largest penalty.
    """

    free: int
    limit: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty interval and a penalty that pays."""
        if not 0 <= self.free < self.limit or self.weight < 0:
            raise ValueError(f"{self}: need 0 <= free < limit and a weight of at least 0.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"length": -weight to 0}."""
        over = (len(response.split()) - self.free) / (self.limit - self.free)
        return {"length": -self.weight * min(1.0, max(0.0, over))}
