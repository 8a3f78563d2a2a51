"""A reward that gives nothing for what needs no reasoning; see the table of exploits in docs/reinforcement/rewards.md."""

from dataclasses import dataclass

from grammar import Report, grade
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class ReasoningReward(Reward):
    """R = alpha [grader accepts] + (1 - alpha) share, of the gold quantities that are computed, of those whose step has no error.

    A quantity is computed if it comes of two or more numbers. A given number and a copy can be read off the text; they earn
    nothing, nor does an answer without a solution. What a policy earns before it solves problems, it earns by true computations
    that they need. If a problem has none, the share is 1 if the grader accepts, else 0.

    Args:
        alpha: weight of the whole solution, in [0, 1].
        grader: "paper", or "executable" for solutions in which every statement is true.
    """

    alpha: float = 0.2
    grader: str = "executable"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"ReasoningReward: alpha={self.alpha} must be within 0 and 1.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"solved": 0 or alpha, "reasoning": 0 to 1 - alpha}."""
        accepted = grade(report, self.grader)
        first = {step.name: step.correct for step in reversed(report.steps)}
        right = sum(
            node.status == "correct" and node.name in report.computed and first.get(node.name, True) for node in report.nodes
        )
        share = right / len(report.computed) if report.computed else float(accepted)
        return {"solved": self.alpha * accepted, "reasoning": (1 - self.alpha) * share}
