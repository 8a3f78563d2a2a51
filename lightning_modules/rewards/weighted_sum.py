"""A reward that is the weighted sum of others."""

from dataclasses import dataclass, field, replace

from grammar import Report
from lightning_modules.rewards.reward import Reward
from lightning_modules.rewards.scoring import score


@dataclass(frozen=True)
class WeightedSum(Reward):
    """sum_i weight_i * reward_i; each part keeps its name, "reward/part", and is weighted, in the log too.

    Args:
        rewards: name -> reward.
        weights: name -> factor; 1 if not given.
    """

    rewards: dict[str, Reward]
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(self.weights.keys() - self.rewards.keys())
        if not self.rewards or unknown:
            raise ValueError(f"WeightedSum: weights {unknown} match none of the rewards {sorted(self.rewards)}; add or rename.")

    def beside(self, solution: str) -> Reward:
        """The sum of the rewards beside this gold solution."""
        rewards = {name: reward.beside(solution) for name, reward in self.rewards.items()}
        return self if rewards == self.rewards else replace(self, rewards=rewards)

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"reward/part": weighted part} for all of them.

        Raises:
            RewardError: one of them fails.
        """
        return {
            f"{name}/{part}": self.weights.get(name, 1.0) * value
            for name, reward in self.rewards.items()
            for part, value in score(reward, response, report).items()
        }
