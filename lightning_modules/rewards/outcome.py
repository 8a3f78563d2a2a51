"""Reward for the answer alone."""

from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class OutcomeReward(Reward):
    """1 for the right answer, however it was reached (paper.md section 4, reward 1)."""

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"outcome": 0 or 1}."""
        return {"outcome": float(report.answer_correct)}
