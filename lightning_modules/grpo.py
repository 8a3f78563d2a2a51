"""GRPO on verified traces: sample G solutions per problem, price them, take clipped policy steps.

Departs from arXiv:2402.03300: the loss is averaged over the tokens of the rollout, not per sequence; std is 1/G.
Not here: formulas (algorithms/), what a trace is worth (rewards/), sampling and log-probabilities (policy.py).
"""

from typing import Any

from torch import Tensor

from lightning_modules.algorithms import clipped_surrogate, group_advantages, kl_k3, token_mean
from lightning_modules.compute import row_counts
from lightning_modules.optimizers import OptimizerFactory
from lightning_modules.policy import ExperienceBatch, PolicyModule
from lightning_modules.reasoner import Evaluation
from lightning_modules.rewards import Reward
from lightning_modules.rollout import SamplingParams
from lightning_modules.schedules import Schedule


class GRPOModule(PolicyModule):
    """maximise  E[ min(rho A, clip(rho, 1-clip, 1+clip) A) ] - beta KL(pi || ref),  rho = pi / pi_old,  A = (r - mean) / std."""

    def __init__(
        self, init_from: str, reward: Reward, *, group_size: int = 8, minibatches: int = 1, epochs: int = 1, clip: float = 0.2,
        beta: float = 0.0, sampling: SamplingParams = SamplingParams(), optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None, evaluation: Evaluation = Evaluation(),
    ) -> None:  # fmt: skip
        """Keep the settings; see PolicyModule, and `clip`: half-width of the trusted interval of the ratio."""
        super().__init__(
            init_from, reward, group_size=group_size, minibatches=minibatches, epochs=epochs, beta=beta, sampling=sampling,
            optimizer=optimizer, schedule=schedule, evaluation=evaluation,
        )  # fmt: skip
        self.clip = clip

    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """Group-relative advantages."""
        return group_advantages(rewards_BG)

    def training_step(self, batch: ExperienceBatch, batch_idx: int) -> dict[str, Any]:
        """One minibatch, sampled, judged and priced by `collect`."""
        logp_NT = self.token_logp(batch.tokens_NT, mask_NT=batch.mask_NT)
        old_NT = logp_NT.detach() if batch.logp_old_NT is None else batch.logp_old_NT
        gain_NT = clipped_surrogate(logp_NT, old_NT, batch.advantage_NT, clip=self.clip)
        if self.beta:
            kl_NT = kl_k3(logp_NT, batch.logp_ref_NT)
            gain_NT = gain_NT - self.beta * kl_NT
            self.log("train/kl_nats", token_mean(kl_NT.detach(), batch.mask_NT))
        loss = -token_mean(gain_NT, batch.mask_NT, tokens=batch.tokens)
        ratio_NT = (logp_NT.detach() - old_NT).exp()
        self.log("train/ratio", token_mean(ratio_NT, batch.mask_NT))
        self.log("train/loss", loss)
        self.log_rollout()
        self.compute.add("update", row_counts(batch.mask_NT))
        return {"loss": loss, "tokens": batch.mask_NT.sum()}
