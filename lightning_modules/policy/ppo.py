"""PPO on verified traces: a critic predicts the reward of a response at each token; the policy learns from the error.

Departs from arXiv:1707.06347: advantages are normalised over the rollout (arXiv:2005.12729), no entropy bonus unless asked for,
and KL(pi || ref) is that of policy_module.py. One optimiser updates both by one summed loss, so `global_step` counts updates.
Not here: formulas (formulas/), critics (models/critic.py), rewards within a response (rewards/), sampling (collector.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.formulas import (
    clipped_value_loss,
    explained_variance,
    generalised_advantages,
    mean_and_variance,
    moments,
    token_log_ratio,
    token_mean,
)
from lightning_modules.models.attending import checkpoint_activations
from lightning_modules.models.compute import row_counts
from lightning_modules.models.critic import Critic, SharedCritic
from lightning_modules.models.passes import Lengths, Rows, in_passes
from lightning_modules.optimizers import Chained, OptimizerFactory
from lightning_modules.policy.experience import Experience, ExperienceBatch
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.policy.surrogate import PolicyLoss
from lightning_modules.rewards import Reward


@dataclass(frozen=True)
class ValueLearning:
    """How returns are defined and learned.

    Args:
        discount: of later rewards.
        decay: lambda of GAE.
        clip: bound on the change of a value since the rollout, reward units; None: no bound.
        weight: of the value loss relative to the policy's.
    """

    discount: float = 1.0
    decay: float = 0.95
    clip: float | None = 0.2
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.discount <= 1 and 0 <= self.decay <= 1 and self.weight > 0 and (self.clip is None or self.clip > 0)):
            raise ValueError(f"{self}: discount and decay must be within 0 and 1, weight and clip above 0.")


class PPOModule(PolicyModule):
    """minimise  -E[ min(rho A, clip(rho, 1-low, 1+high) A) ] + beta KL + c E[ (V - R)^2 ] / 2,  A = GAE(r, V),  R = A + V."""

    def __init__(
        self, init_from: str, reward: Reward, *, critic: Critic | None = None, values: ValueLearning = ValueLearning(),
        critic_optimizer: OptimizerFactory | None = None, policy_loss: PolicyLoss | None = None, **policy: Any,
    ) -> None:  # fmt: skip
        """Store the critic; `configure_model` builds its parameters.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: scores a verified response; its last token gets the score.
            critic: computes values; None: a head on the policy's hidden states.
            values: how returns are defined and learned.
            critic_optimizer: of the critic's parameters; None: built like the policy's.
            policy_loss: the surrogate; None: clipping, see `clip`.
            policy: see PolicyModule.
        """
        super().__init__(init_from, reward, **policy)
        self.choose(policy_loss)
        self.critic, self.values, self.critic_optimizer = critic or SharedCritic(), values, critic_optimizer

    def configure_model(self) -> None:
        """Build or load both models, once."""
        if self.language_model is None:
            super().configure_model()
            half = self.device_mesh is not None and self.trainer.precision == "bf16-mixed"
            self.critic.configure(self.language_model, self.init_from, self.load, self.device_mesh, half=half)
            if self.gradient_checkpointing and not self.critic.shares:
                checkpoint_activations(self.critic.model)

    def build_optimizer(self) -> Optimizer:
        """Parameter groups of the policy, then those of the critic."""
        return Chained(self.optimizer(self.language_model), (self.critic_optimizer or self.optimizer)(self.critic))

    def policy_and_value(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Log-probability of each sampled token (else 0) and value before it (else any): twice [N, T-1]."""
        return in_passes(self._policy_and_value, rows, self.passes(rows.lengths))

    def _policy_and_value(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """`policy_and_value` of one pass."""
        layout = self.layout(rows)
        logp_P, states_PH = self.next_logp(self.language_model, layout, states=self.critic.shares)
        return layout.spread(logp_P), layout.spread(self.critic(layout, states_PH))

    def grouped(self, lengths: Lengths) -> bool:
        """Never, as critics go row by row."""
        return False

    def states(self, tokens_BT: Tensor) -> list[Tensor]:
        """Last states of all models that an update runs."""
        critics = [] if self.critic.shares else [self.critic.model(input_ids=tokens_BT, use_cache=False).last_hidden_state]
        return super().states(tokens_BT) + critics

    def training_step(self, batch: ExperienceBatch, batch_idx: int) -> dict[str, Any]:
        """Update on one minibatch of a rollout; see `collect`."""
        logp_NT, value_NT = self.policy_and_value(batch.rows)
        log_ratio_NT = token_log_ratio(logp_NT, batch.old(logp_NT))
        gain_NT = batch.weighted(self.gain(logp_NT, log_ratio_NT, batch) - self.penalty(logp_NT, batch))
        error_NT = batch.weighted(clipped_value_loss(value_NT, batch.value_NT, batch.return_NT, clip=self.values.clip))
        value_loss = token_mean(error_NT, batch.mask_NT, tokens=batch.tokens)
        loss = -token_mean(gain_NT, batch.mask_NT, tokens=batch.tokens) + self.values.weight * value_loss
        self.update_log.add("train/value_loss", value_loss)
        if not self.critic.shares:
            self.compute.add("critic update", row_counts(batch.mask_NT))
        return self.log_update(loss, logp_NT, log_ratio_NT, batch)

    @property
    def needs_old_logp(self) -> bool:
        """Always, as returns need the values at the rollout."""
        return True

    def old_outputs(self, rows: Rows) -> dict[str, Tensor]:
        """Log-probabilities and values at the rollout."""
        logp_NT, value_NT = self.policy_and_value(rows)
        return {"logp_old_NT": logp_NT, "value_NT": value_NT}

    def compute_advantages(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """Returns and normalised advantages, token by token."""
        for batch in batches:
            if not self.critic.shares:
                self.compute.add("values", row_counts(batch.mask_NT))
            batch.advantage_NT = generalised_advantages(
                batch.token_rewards_NT, batch.value_NT, batch.mask_NT, discount=self.values.discount, decay=self.values.decay
            )
            batch.return_NT = batch.advantage_NT + batch.value_NT
        terms = [(b.advantage_NT, b.return_NT, b.return_NT - b.value_NT) for b in batches]
        # a minibatch of weight 0 keeps a row all the same
        learned = [b.mask_NT & (b.weight_N1 > 0) for b in batches]
        sums = sum(torch.stack([moments(t, mask_NT) for t in three]) for three, mask_NT in zip(terms, learned, strict=True))
        advantages, returns, errors = self.trainer.strategy.reduce(sums, reduce_op="mean")
        mean, variance = (x.float() for x in mean_and_variance(advantages))
        for batch in batches:
            batch.advantage_NT = torch.where(batch.mask_NT, (batch.advantage_NT - mean) / (variance.sqrt() + 1e-8), 0.0)
        self.collector.log |= {
            "train/explained_variance": float(explained_variance(returns, errors)),
            "train/return": float(mean_and_variance(returns)[0]),
        }
