"""Weights of the samples of a rollout in the loss: a curriculum that looks at what was just solved."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from grammar import grade
from grammar.graders import check_grader
from lightning_modules.policy.experience import Group


class SampleWeights(ABC):
    """Weighs the completions of a group. Put a new subclass in a separate file: `group.weights: {class_path: ...}`.

    The loss is the weighted mean, so that weights shift attention and not the learning rate: a sample of weight 2 counts as if it
    were in the loss twice, one of weight 0 as if it were not. Advantages do not depend on weights.
    """

    @abstractmethod
    def __call__(self, group: Group) -> Sequence[float]:
        """[G] weights, finite and at least 0, of a judged and scored group."""


@dataclass(frozen=True)
class SolveRateWeights(SampleWeights):
    """1 for groups of which between `low` and `high` is solved, `outside` for the others.

    Args:
        low: smallest share of completions solved.
        high: largest.
        outside: weight of the other groups.
        grader: says what is solved.
    """

    low: float = 0.0
    high: float = 0.5
    outside: float = 0.0
    grader: str = "executable"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1 or not 0 <= self.outside < math.inf:
            raise ValueError(f"{self}: need 0 <= low <= high <= 1, and a finite weight of at least 0 outside.")
        check_grader(self.grader)

    def __call__(self, group: Group) -> Sequence[float]:
        """All completions of a group weigh the same."""
        rate = sum(grade(report, self.grader) for report in group.reports) / len(group.reports)
        return [1.0 if self.low <= rate <= self.high else self.outside] * len(group.reports)


def checked_weights(weigh: SampleWeights, group: Group) -> list[float]:
    """The weights of a group.

    Raises:
        ValueError: not one for each completion, or one that is negative or not finite.
    """
    weights = [float(weight) for weight in weigh(group)]
    if len(weights) != len(group.completions) or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(
            f"{type(weigh).__name__} gave weights {weights} to {len(group.completions)} completions of {group.example.id}; "
            "give each one that is finite and at least 0."
        )
    return weights
