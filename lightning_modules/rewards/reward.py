"""Rewards for a verified response: `grammar.verify` gives verdicts, a reward scores them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from grammar import Report, grade
from grammar.checking.published_scorer import published_verdict
from grammar.graders import check_grader


class Reward(ABC):
    """Scores one judged response by named parts, whose sum is the reward. Put a new subclass in a separate file."""

    @abstractmethod
    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """Score a response.

        Args:
            response: what the model wrote after `<solution>`.
            report: the verdict on it.

        Returns:
            Named parts; one that is absent abstains for this response.
        """

    def beside(self, solution: str) -> "Reward":
        """What scores responses to the problem with this gold solution: itself, unless the reward reads the gold text."""
        return self


@dataclass(frozen=True)
class OutcomeReward(Reward):
    """1 for the right answer, however it was reached (arXiv:2512.07783, sections 3 and 6)."""

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"outcome": 0 or 1}."""
        return {"outcome": float(report.answer_correct)}


@dataclass(frozen=True)
class ProcessReward(Reward):
    """R_pv, the share of gold nodes with the right value and the right parents (arXiv:2512.07783, section 6)."""

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"process": 0 to 1}."""
        return {"process": report.process_accuracy}


@dataclass(frozen=True)
class StrictReward(Reward):
    """1 if `grader` accepts, else 0 (arXiv:2512.07783, section 6: R_out if R_pv = 1, which is grader "paper").

    Args:
        grader: "paper", or "executable" for solutions in which every statement is true; "released": the published scorer, on the
            texts of response and gold solution.
    """

    grader: str = "paper"

    def __post_init__(self) -> None:
        check_grader(self.grader, ("released",))

    def beside(self, solution: str) -> Reward:
        """With the grader "released" its verdict beside this gold solution."""
        return _PublishedVerdict(solution) if self.grader == "released" else self

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"strict": 0 or 1}."""
        return {"strict": float(grade(report, self.grader))}


@dataclass(frozen=True)
class _PublishedVerdict(Reward):
    """1 if the published scorer accepts a response beside a gold `solution`."""

    solution: str

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"strict": 0 or 1}."""
        return {"strict": float(published_verdict(response, self.solution).perfect)}


@dataclass(frozen=True)
class MixedReward(Reward):
    """R = alpha R_out + (1 - alpha) R_pv, R_pv the share of gold nodes that are right (arXiv:2512.07783, section 6).

    Args:
        alpha: weight of the answer, in [0, 1].
        gated: a wrong answer earns 0, as in the released code; false: as in the paper.
    """

    alpha: float = 0.2
    gated: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"MixedReward: alpha={self.alpha} must be within 0 and 1.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"outcome": ..., "process": ...}."""
        counts = report.answer_correct or not self.gated
        return {
            "outcome": self.alpha * report.answer_correct,
            "process": (1 - self.alpha) * report.process_accuracy * counts,
        }
