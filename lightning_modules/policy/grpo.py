"""GRPO and its family on verified traces: sample G solutions per problem, score them, take clipped policy steps.

Departs from arXiv:2402.03300: the loss is averaged over the tokens of the rollout, not per sequence.
Not here: formulas (formulas/), rewards (rewards/), sampling (collector.py), log-probabilities (policy_module.py).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from lightning_modules.formulas import (
    centred_advantages,
    constant_length_mean,
    group_advantages,
    leave_one_out_advantages,
    node_advantages,
    sequence_mean,
    sequence_token_log_ratio,
    step_advantages,
    token_log_ratio,
    token_mean,
)
from lightning_modules.policy.experience import Experience, ExperienceBatch, check_shape
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.policy.surrogate import PolicyLoss
from lightning_modules.rewards import Reward


class GRPOModule(PolicyModule):
    """maximise  E[ min(rho A, clip(rho, 1-low, 1+high) A) ] - beta KL(pi || ref),  rho = pi / pi_old,  A = (r - mean) / std.

    With `credit`, the advantage of a token includes those of its own and later steps (section 4.1.3 of the paper; with aligned
    credit each is relative to the same quantity in the group, `node_advantages`).
    A variant overrides `advantages`, `log_ratio` or `mean` (see group_objectives.py). Other surrogates: `policy_loss`.
    """

    relative_to_group = True
    divides_by_std: ClassVar[bool] = True  # of rewards, and of those of steps

    def __init__(
        self, init_from: str, reward: Reward, *, std_correction: int | None = 0, step_discount: float = 1.0,
        policy_loss: PolicyLoss | None = None, **policy: Any,
    ) -> None:  # fmt: skip
        """Choose how advantages are normalised, and the surrogate.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: scores a verified response.
            std_correction: the std of a group, and of its steps, divides by G minus this; None: no division by a std.
            step_discount: of later steps, if steps earn; 0: a token's advantage depends on its own step alone.
            policy_loss: the surrogate; None: clipping, see `clip`.
            policy: see PolicyModule.
        """
        super().__init__(init_from, reward, **policy)
        self.choose(policy_loss)
        if std_correction and not self.divides_by_std:
            raise ValueError(f"{type(self).__name__} divides by no std; leave out `std_correction`, or set it to 0.")
        if not 0 <= step_discount <= 1:
            raise ValueError(f"step_discount={step_discount} must be within 0 and 1.")
        if std_correction is not None and not 0 <= std_correction < self.group.size:
            raise ValueError(f"std_correction={std_correction} must be at least 0 and below group.size={self.group.size}.")
        self.std_correction, self.step_discount = std_correction if self.divides_by_std else None, step_discount

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """[B, G] rewards -> [B, G] advantages, relative to the group."""
        return group_advantages(rewards_BG, correction=self.std_correction)

    def completion_advantages(self, experience: Experience) -> Tensor:
        """[B, G] advantages of completions; override it in place of `advantages` to see lengths, ends and all else there is."""
        return self.advantages(experience.rewards_BG)

    def log_ratio(self, logp_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] log importance ratios."""
        return token_log_ratio(logp_NT, batch.old(logp_NT))

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """One number from the terms of all tokens.

        Completions without an advantage are left out where their gradient is 0, so a mean over a batch divides by what the
        whole rollout has for an update: `batch.tokens` or `batch.sequences`.
        """
        return token_mean(terms_NT, batch.mask_NT, tokens=batch.tokens)

    def training_step(self, batch: ExperienceBatch, batch_idx: int) -> dict[str, Any]:
        """Update on one minibatch of a rollout; see `collect`."""
        logp_NT = self.token_logp(batch.rows)
        log_ratio_NT = self.log_ratio(logp_NT, batch)
        gain_NT = self.gain(logp_NT, log_ratio_NT, batch)
        loss = -self.mean(batch.weighted(gain_NT - self.penalty(logp_NT, batch)), batch)
        return self.log_update(loss, logp_NT, log_ratio_NT, batch)

    def has_gradient(self, experience: Experience) -> Tensor:
        """[N] bool: rows with an advantage; otherwise the gradient is exactly 0."""
        return (self._advantage(experience) != 0).any(dim=1)

    def compute_advantages(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """A completion's advantage on each of its tokens, plus that of its steps."""
        advantage_NT = self._advantage(experience)
        for batch in batches:
            batch.advantage_NT = advantage_NT[batch.rows_N, : batch.mask_NT.shape[1]]

    def _advantage(self, experience: Experience) -> Tensor:
        """[N, T], 0 except on sampled tokens."""
        if experience.advantage_NT is None:  # `advantages` may remember what it was called with: once a rollout
            experience.advantage_NT = self._computed(experience)
        return experience.advantage_NT

    def _computed(self, experience: Experience) -> Tensor:
        advantages_BG = self.completion_advantages(experience)
        check_shape(advantages_BG, experience.rewards_BG, f"{type(self).__name__}: advantages")
        advantage_NT = advantages_BG.flatten()[:, None] * experience.mask_NT
        if self.collector.credit is None:
            return advantage_NT
        rule: dict[str, Any] = {"discount": self.step_discount, "correction": self.std_correction}
        if self.collector.credit.aligned:
            earned_BGK, place_BGK = map(experience.by_group, (experience.earned_NK, experience.place_NK))
            steps_BGT = node_advantages(earned_BGK, place_BGK, advantage_NT.shape[1], **rule)
        else:
            steps_BGT = step_advantages(*map(experience.by_group, (experience.credit_NT, experience.ends_NT)), **rule)
        return advantage_NT + steps_BGT.flatten(0, 1) * experience.mask_NT


class DrGRPOModule(GRPOModule):
    """Dr. GRPO (arXiv:2503.20783): A = r - mean, and a loss divided by the longest completion allowed.

    It omits the two divisions that favour easy problems and long answers.
    """

    divides_by_std = False

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """Rewards less their group's mean."""
        return centred_advantages(rewards_BG)

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """Sum over tokens / (completions * max_new_tokens)."""
        return constant_length_mean(terms_NT, batch.mask_NT, length=self.sampling.max_new_tokens, sequences=batch.sequences)


class GSPOModule(GRPOModule):
    """GSPO (arXiv:2507.18071): one ratio per completion, the geometric mean of its tokens', and a mean over completions.

    With `credit`, tokens of a completion have different advantages (GSPO-token). Such ratios stay much closer to 1 than those
    of tokens; the paper clips at `clip: {low: 3.0e-4, high: 4.0e-4}`.
    """

    def log_ratio(self, logp_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] the completion's log ratio on each of its tokens, with that token's gradient."""
        return sequence_token_log_ratio(logp_NT, batch.old(logp_NT), batch.mask_NT)

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """Mean over completions of the mean over their tokens."""
        return sequence_mean(terms_NT, batch.mask_NT, sequences=batch.sequences)


class RLOOModule(GRPOModule):
    """RLOO (arXiv:2402.14740): A = r - mean of the others in the group, and a loss summed over the tokens of a completion.

    With one epoch and one minibatch every ratio is 1: the clip does nothing, and the gradient is A grad log pi(completion).
    """

    divides_by_std = False

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """Rewards less the mean of the others in their group."""
        return leave_one_out_advantages(rewards_BG)

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """Sum over tokens / completions."""
        return constant_length_mean(terms_NT, batch.mask_NT, length=1, sequences=batch.sequences)
