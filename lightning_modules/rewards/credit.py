"""Dense credit: rewards that fall within a response, besides the reward of the whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from grammar import Report


class Earned(NamedTuple):
    """The text up to character `end` (excluded) has just earned `reward`."""

    end: int
    reward: float


class Credit(ABC):
    """Says what places of responses earn. It sees all responses to a problem at once. Add yours in a file of its own."""

    @abstractmethod
    def __call__(self, responses: Sequence[str], reports: Sequence[Report]) -> list[list[Earned]]:
        """Score places of the responses to one problem.

        Args:
            responses: [G] what the model wrote after `<solution>`.
            reports: [G] what is true of them; characters of steps and errors are those of the responses.

        Returns:
            [G] for each response its places, each the end of a step: in GRPO a reward of 0 counts as that of a step.
        """


@dataclass(frozen=True)
class StepCredit(Credit):
    """At the end of each step: right / n if it is without error, else wrong / n, n the number of gold quantities.

    Right steps that no gold solution has earn nothing, so that writing more of them does not pay.

    Args:
        right: what a solution earns in all if all of its steps are right.
        wrong: what it earns if all are wrong.
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
