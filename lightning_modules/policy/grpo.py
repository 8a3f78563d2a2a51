"""GRPO on verified traces: sample G solutions per problem, price them, take clipped policy steps.

Departs from arXiv:2402.03300: the loss is averaged over the tokens of the rollout, not per sequence.
Not here: formulas (algorithms/), what a trace is worth (rewards/), sampling (group_sampling.py), log-probabilities (policy.py).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_modules.formulas import group_advantages, step_advantages, token_log_ratio, token_mean
from lightning_modules.policy.experience import Experience, ExperienceBatch
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.rewards import Reward


class GRPOModule(PolicyModule):
    """maximise  E[ min(rho A, clip(rho, 1-low, 1+high) A) ] - beta KL(pi || ref),  rho = pi / pi_old,  A = (r - mean) / std.

    With `credit`, a token is also worth what the steps from its own on earn more than the group's steps (4.1.3 there).
    A variant overrides `advantages`, `log_ratio` or `mean`.
    """

    def __init__(
        self, init_from: str, reward: Reward, *, std_correction: int = 0, step_discount: float = 1.0, **policy: Any
    ) -> None:
        """Keep the settings.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: prices a verified response.
            std_correction: the std of a group divides by G minus this.
            step_discount: of the steps after a token's own, where steps earn; 0: each answers for itself alone.
            policy: see PolicyModule.
        """
        super().__init__(init_from, reward, **policy)
        if (std_correction or self.credit) and type(self).advantages is not GRPOModule.advantages:
            raise ValueError(f"{type(self).__name__} divides by no std; leave out `std_correction` and `credit`.")
        if not 0 <= step_discount <= 1:
            raise ValueError(f"step_discount={step_discount} must be within 0 and 1.")
        if not 0 <= std_correction < self.group_size:
            raise ValueError(f"std_correction={std_correction} must be at least 0 and below group_size={self.group_size}.")
        self.std_correction, self.step_discount = std_correction, step_discount

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """[B, G] rewards -> [B, G] advantages, relative to the group."""
        return group_advantages(rewards_BG, correction=self.std_correction)

    def log_ratio(self, logp_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] log importance ratios."""
        return token_log_ratio(logp_NT, batch.old(logp_NT))

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """One number from the terms of all tokens."""
        return token_mean(terms_NT, batch.mask_NT, tokens=batch.tokens)

    def training_step(self, batch: ExperienceBatch, batch_idx: int) -> dict[str, Any]:
        """One minibatch, sampled, judged and priced by `collect`."""
        logp_NT = self.token_logp(batch.tokens_NT, batch.mask_NT)
        log_ratio_NT = self.log_ratio(logp_NT, batch)
        gain_NT = self.clip.surrogate(log_ratio_NT, batch.advantage_NT)
        loss = -self.mean(gain_NT - self.penalty(logp_NT, batch), batch)
        return self.log_update(loss, logp_NT, log_ratio_NT, batch)

    def matters(self, experience: Experience) -> Tensor:
        """[N] bool: without an advantage the gradient is exactly 0."""
        return (self._advantage(experience) != 0).any(dim=1)

    def assess(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """A completion's advantage on each of its tokens, and that of its steps."""
        advantage_NT = self._advantage(experience)
        for batch in batches:
            batch.advantage_NT = advantage_NT[batch.rows_N, : batch.mask_NT.shape[1]]

    def _advantage(self, experience: Experience) -> Tensor:
        """[N, T], 0 on all but sampled tokens."""
        advantage_NT = self.advantages(experience.rewards_BG).flatten()[:, None] * experience.mask_NT
        if self.credit is None:
            return advantage_NT
        shape = (-1, experience.group_size, experience.mask_NT.shape[1])
        steps_BGT = step_advantages(
            experience.credit_NT.view(shape), experience.ends_NT.view(shape), discount=self.step_discount,
            correction=self.std_correction,
        )  # fmt: skip
        return advantage_NT + steps_BGT.flatten(0, 1) * experience.mask_NT
