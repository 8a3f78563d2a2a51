"""A penalty for responses that are not written as asked."""

from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.reward import Reward

END = "</answer>"


@dataclass(frozen=True)
class FormatPenalty(Reward):
    """-weight unless every step can be read and a closed answer tag holds an integer; what they say does not matter.

    weight: the penalty.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a penalty that pays."""
        if self.weight < 0:
            raise ValueError(f"{self}: the weight must be at least 0.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"format": 0 or -weight}."""
        readable = not any(error.kind == "syntax" for error in report.errors)
        return {"format": 0.0 if readable and report.answer is not None and END in response else -self.weight}
