"""Dense credit: rewards within a response, in addition to the reward of the whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from grammar import Report


class Earned(NamedTuple):
    """A reward at character `end` (excluded) of a response."""

    end: int
    reward: float


class Credit(ABC):
    """Scores places within the responses to one problem, all at once. Put a new subclass in a separate file."""

    @abstractmethod
    def __call__(self, responses: Sequence[str], reports: Sequence[Report]) -> list[list[Earned]]:
        """Score places of the responses to one problem.

        Args:
            responses: [G] what the model wrote after `<solution>`.
            reports: [G] verdicts; characters of steps and errors are those of the responses.

        Returns:
            [G] the scored places of each response, each the end of a step; in GRPO a reward of 0 counts as a step.
        """


@dataclass(frozen=True)
class StepCredit(Credit):
    """At the end of each step: right / n if it is without error, else wrong / n, n the number of gold quantities.

    Right steps outside the gold solution earn nothing, so that extra steps do not pay.

    Args:
        right: total for a solution whose steps are all right.
        wrong: total for one whose steps are all wrong.
    """

    right: float = 1.0
    wrong: float = -1.0

    def __post_init__(self) -> None:
        if self.right <= self.wrong:
            raise ValueError(f"{self}: a right step must earn more than a wrong one.")

    def __call__(self, responses: Sequence[str], reports: Sequence[Report]) -> list[list[Earned]]:
        """See `Credit`."""
        return [self._steps(report) for report in reports]

    def _steps(self, report: Report) -> list[Earned]:
        gold = {node.name for node in report.nodes}
        right, wrong = self.right / max(1, len(gold)), self.wrong / max(1, len(gold))
        return [Earned(step.end, right * (step.name in gold) if step.correct else wrong) for step in report.steps]
