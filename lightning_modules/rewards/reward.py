"""What a reward is. Facts come from `grammar.verify`; a reward scores them, and looks at nothing else but the response."""

from abc import ABC, abstractmethod

from grammar import Report


class Reward(ABC):
    """Turns one judged response into named parts; their sum is the reward. Add yours in a file of its own."""

    @abstractmethod
    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """Price a response.

        Args:
            response: what the model wrote after `<solution>`.
            report: what is true of it.

        Returns:
            Named parts, the same names for every response.
        """
