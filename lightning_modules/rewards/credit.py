"""What dense credit is: rewards that fall within a response, besides the reward of the whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
        """Price places of the responses to one problem.

        Args:
            responses: [G] what the model wrote after `<solution>`.
            reports: [G] what is true of them; characters of steps and errors are those of the responses.

        Returns:
            [G] for each response its places, each the end of a step: in GRPO a reward of 0 counts as that of a step.
        """
