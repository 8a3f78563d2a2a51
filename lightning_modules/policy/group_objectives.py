"""Variants of GRPO that ask for more than pass@1: the best of k, and the likelihood of success.

Not here: formulas (formulas/best_of_k.py, formulas/advantages.py); everything else is GRPO's.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_modules.formulas import best_of_k_advantages, marginal_advantages, maximum_likelihood_advantages
from lightning_modules.policy.experience import Experience, ExperienceBatch
from lightning_modules.policy.grpo import GRPOModule
from lightning_modules.rewards import Reward
from lightning_modules.schedules import Ramp


class BestOfKModule(GRPOModule):
    """Pass@k training (arXiv:2508.10751): A = (E[best of k | with this completion] - E[best of k]) / std of the best of k.

    k = 1 is GRPO. A group of which more than G - k completions are right teaches nothing, as every k of it hold a right one.
    """

    def __init__(self, init_from: str, reward: Reward, *, k: int | Ramp = 4, **grpo: Any) -> None:
        """Set k.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: scores a verified response.
            k: completions of which the best counts; a ramp is rounded to whole numbers.
            grpo: see GRPOModule.
        """
        super().__init__(init_from, reward, **grpo)
        if self.divides_by_std and self.std_correction != 0:
            raise ValueError(f"{type(self).__name__} divides by a std of its own; leave out `std_correction`, or set it to 0.")
        self.k = k
        low, high = sorted((k.first, k.last) if isinstance(k, Ramp) else (k, k))
        if not 1 <= low <= high <= self.largest_k:
            raise ValueError(f"k={k} must be at least 1 and at most {self.largest_k} with group.size={self.group.size}.")

    @property
    def largest_k(self) -> int:
        """Of all k-subsets there must be more than one to compare."""
        return self.group.size - 1

    @property
    def k_now(self) -> int:
        """K at this point of the run."""
        return round(self.k(self.progress)) if isinstance(self.k, Ramp) else self.k

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """[B, G] rewards -> [B, G]; see `best_of_k_advantages`."""
        return best_of_k_advantages(rewards_BG, k=self.k_now)

    def compute_advantages(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """As in GRPO; logs `train/k`."""
        super().compute_advantages(experience, batches)
        self.collector.log["train/k"] = float(self.k_now)


class PKPOModule(BestOfKModule):
    """PKPO (arXiv:2505.15201): A = k E[best of k with this completion - best of the k - 1 others], any k up to G.

    An unbiased gradient of the expected best of k; k = 1 is RLOO's advantage.
    """

    divides_by_std = False

    @property
    def largest_k(self) -> int:
        """The whole group."""
        return self.group.size

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """[B, G] rewards -> [B, G]; see `marginal_advantages`."""
        return marginal_advantages(rewards_BG, k=self.k_now)


class MaxRLModule(GRPOModule):
    """MaxRL (arXiv:2602.02710): A = (r - mean) / mean, the gradient of log p, its series cut after G - 1 terms."""

    divides_by_std = False

    def __init__(self, init_from: str, reward: Reward, **grpo: Any) -> None:
        """Refuse what makes rewards negative.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: scores a verified response, at 0 or above.
            grpo: see GRPOModule.
        """
        super().__init__(init_from, reward, **grpo)
        if self.group.overlong is not None or (self.kl.weight and self.kl.place == "reward"):
            raise ValueError(
                "MaxRLModule divides by the mean reward, so that rewards must not fall below 0; leave out `group.overlong` and "
                "`kl.place: reward`."
            )

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """[B, G] rewards -> [B, G]; see `maximum_likelihood_advantages`."""
        return maximum_likelihood_advantages(rewards_BG)
