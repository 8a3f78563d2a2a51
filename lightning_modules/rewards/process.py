"""Reward for the process alone."""

from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class ProcessReward(Reward):
    """R_pv, the share of gold nodes with the right value and the right parents (arXiv:2512.07783, section 6)."""

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"process": 0 to 1}."""
        return {"process": report.process_accuracy}
