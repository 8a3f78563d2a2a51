"""Dense credit: rewards within a response, in addition to the reward of the whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from grammar import Report


class Earned(NamedTuple):
    """A reward at character `end` (excluded) of a response; beyond its text is its last token, which ends it."""

    end: int
    reward: float


class Credit(ABC):
    """Scores places within the responses to one problem, all at once. Put a new subclass in a separate file.

    aligned: all responses to a problem have equally many rewards, and reward number k is about the same thing in each. Then GRPO
        compares it with reward k of the others (`node_advantages`), else every step with all steps (`step_advantages`).
    """

    aligned: ClassVar[bool] = False

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

    Right steps outside the gold solution earn nothing. In GRPO, which compares steps with the mean of all, that is more than most
    earn where most are wrong; `NodeCredit` has no such gain.

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


@dataclass(frozen=True)
class NodeCredit(Credit):
    """For each gold quantity right / n if the first step that defines it is without error, else wrong / n, n their number.

    The place is the end of that step, or of the whole response if there is none; whatever else is written earns nothing. So
    neither more steps, nor the same steps again, nor fewer raise what is earned at or after any token.

    Args:
        right: total for a solution whose steps are all right; in GRPO, where only the order of the two counts, as good as any.
        wrong: total for one whose steps are all wrong, or missing.
    """

    right: float = 1.0
    wrong: float = -1.0
    aligned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.right <= self.wrong:
            raise ValueError(f"{self}: a right step must earn more than a wrong one.")

    def __call__(self, responses: Sequence[str], reports: Sequence[Report]) -> list[list[Earned]]:
        """See `Credit`."""
        return [self._nodes(report, len(text) + 1) for text, report in zip(responses, reports, strict=True)]

    def _nodes(self, report: Report, beyond: int) -> list[Earned]:
        first = {step.name: step for step in reversed(report.steps)}
        steps = [first.get(node.name) for node in report.nodes]
        rewards = [self.right if step is not None and step.correct else self.wrong for step in steps]
        return [Earned(beyond if s is None else s.end, reward / len(steps)) for s, reward in zip(steps, rewards, strict=True)]
