"""Dr. GRPO (arXiv:2503.20783): GRPO without the two divisions that favour easy or long answers."""

from torch import Tensor

from lightning_modules.formulas import centred_advantages, constant_length_mean
from lightning_modules.policy.experience import ExperienceBatch
from lightning_modules.policy.grpo import GRPOModule


class DrGRPOModule(GRPOModule):
    """GRPO with A = r - mean, and a loss divided by the longest completion allowed instead of by the tokens there are."""

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """Rewards less their group's mean."""
        return centred_advantages(rewards_BG)

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """Sum over tokens / (completions * max_new_tokens)."""
        return constant_length_mean(terms_NT, batch.mask_NT, length=self.sampling.max_new_tokens, sequences=batch.sequences)
