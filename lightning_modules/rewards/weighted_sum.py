"""Rewards added up."""

from dataclasses import dataclass, field

from grammar import Report
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class WeightedSum(Reward):
    """sum_i weight_i * reward_i; each part keeps its name, "reward/part".

    rewards: the rewards, by names of your choice.
    weights: factor of each; 1 where not given.
    """

    rewards: dict[str, Reward]
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty sum and weights of rewards that are not in it."""
        unknown = sorted(self.weights.keys() - self.rewards.keys())
        if not self.rewards or unknown:
            raise ValueError(
                f"WeightedSum: weights {unknown} belong to none of the rewards {sorted(self.rewards)}; add or rename."
            )

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"reward/part": weighted part} for all of them."""
        return {
            f"{name}/{part}": self.weights.get(name, 1.0) * value
            for name, reward in self.rewards.items()
            for part, value in reward(response, report).items()
        }
