"""RLOO (arXiv:2402.14740): REINFORCE whose baseline is the mean reward of the other completions."""

from torch import Tensor

from lightning_modules.formulas import constant_length_mean, leave_one_out_advantages
from lightning_modules.policy.experience import ExperienceBatch
from lightning_modules.policy.grpo import GRPOModule


class RLOOModule(GRPOModule):
    """GRPO with A = r - mean of the others, and a loss summed over the tokens of a completion.

    With one epoch and one minibatch every ratio is 1: the clip does nothing, and the gradient is A grad log pi(completion).
    """

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """Rewards less the mean of the others in their group."""
        return leave_one_out_advantages(rewards_BG)

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """Sum over tokens / completions."""
        return constant_length_mean(terms_NT, batch.mask_NT, length=1, sequences=batch.sequences)
