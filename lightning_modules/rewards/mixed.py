"""Reward for answer and process together."""

from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class MixedReward(Reward):
    """R = alpha R_out + (1 - alpha) R_pv, R_pv the share of gold nodes that are right (arXiv:2512.07783, section 6).

    alpha: weight of the answer, in [0, 1].
    gated: a wrong answer is worth 0, as in the released code; false: as in the paper.
    """

    alpha: float = 0.2
    gated: bool = False

    def __post_init__(self) -> None:
        """Refuse a weight outside [0, 1]."""
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"MixedReward: alpha={self.alpha} must be within 0 and 1.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"outcome": ..., "process": ...}."""
        counts = report.answer_correct or not self.gated
        return {
            "outcome": self.alpha * report.answer_correct,
            "process": (1 - self.alpha) * report.process_accuracy * counts,
        }
