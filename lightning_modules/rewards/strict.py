"""Reward for a solution without a fault."""

from dataclasses import dataclass

from grammar import Report, grade
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class StrictReward(Reward):
    """1 where `grader` accepts, else 0 (arXiv:2512.07783, section 6: R_out if R_pv = 1, which is grader "paper").

    grader: "paper", or "executable" for solutions in which everything that is said is true.
    """

    grader: str = "paper"

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"strict": 0 or 1}."""
        return {"strict": float(grade(report, self.grader))}
