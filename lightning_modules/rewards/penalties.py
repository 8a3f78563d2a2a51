"""Penalties on the form of a response."""

from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.reward import Reward

END = "</answer>"


@dataclass(frozen=True)
class FormatPenalty(Reward):
    """-weight unless every step can be parsed and a closed answer tag holds an integer, right or wrong.

    Args:
        weight: the penalty.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"{self}: the weight must be at least 0.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"format": 0 or -weight}."""
        readable = not any(error.kind == "syntax" for error in report.errors)
        return {"format": 0.0 if readable and report.answer is not None and END in response else -self.weight}


@dataclass(frozen=True)
class LengthPenalty(Reward):
    """0 up to `free` words, then a line down to -weight at `limit` words, and no lower (DAPO, arXiv:2503.14476, eq. 13).

    Words are separated by white space, so that the penalty depends on no tokenizer.

    Args:
        free: words without penalty.
        limit: words from which the penalty is `weight`, above `free`.
        weight: the largest penalty.
    """

    free: int
    limit: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.free < self.limit or self.weight < 0:
            raise ValueError(f"{self}: need 0 <= free < limit and a weight of at least 0.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"length": -weight to 0}."""
        over = (len(response.split()) - self.free) / (self.limit - self.free)
        return {"length": -self.weight * min(1.0, max(0.0, over))}


@dataclass(frozen=True)
class OverlongPenalty:
    """0 up to longest - `cache` tokens, then a line down to -weight at `longest` (DAPO, arXiv:2503.14476, eq. 13).

    A rollout adds it to any reward (`group.overlong`); `longest` is its `sampling.max_new_tokens`, or what the model's positions
    leave behind the prompt, if that is less. The token that ends a completion counts.

    Args:
        cache: tokens over which the penalty rises.
        weight: the largest penalty.
    """

    cache: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.cache < 1 or self.weight < 0:
            raise ValueError(f"{self}: need a cache of at least 1 and a weight of at least 0.")

    def __call__(self, tokens: int, longest: int) -> float:
        """-weight to 0."""
        return -self.weight * min(1.0, max(0.0, (tokens - longest + self.cache) / self.cache))
