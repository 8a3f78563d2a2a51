"""Credit for verified steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from grammar import Report
from lightning_modules.rewards.credit import Credit, Earned


@dataclass(frozen=True)
class StepCredit(Credit):
    """At the end of each step: right / n if it is without error, wrong / n if not, n the number of gold quantities.

    Right steps that no gold solution has earn nothing, so that writing more of them does not pay.

    right: earned by a solution all of whose steps are right, in all.
    wrong: earned by one all of whose steps are wrong.
    """

    right: float = 1.0
    wrong: float = -1.0

    def __post_init__(self) -> None:
        """Refuse credit that does not tell right from wrong."""
        if self.right <= self.wrong:
            raise ValueError(f"{self}: a right step must earn more than a wrong one.")

    def __call__(self, responses: Sequence[str], reports: Sequence[Report]) -> list[list[Earned]]:
        """See `Credit`."""
        return [self._steps(report) for report in reports]

    def _steps(self, report: Report) -> list[Earned]:
        gold = {node.name for node in report.nodes}
        right, wrong = self.right / max(1, len(gold)), self.wrong / max(1, len(gold))
        return [Earned(step.end, right * (step.name in gold) if step.correct else wrong) for step in report.steps]
