"""What reinforcement learning stages share: sampled problems become experience, experience becomes minibatches.

The training loader calls `collect` once per rollout (datamodules/reinforcement.py), so a rollout comes from the weights that
the last update left. Not here: how groups are sampled and judged (group_sampling.py), formulas (algorithms/), the loss (grpo.py).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from datamodules.rows.batch import PromptBatch
from lightning_modules.evaluation import Evaluation
from lightning_modules.formulas import token_mean
from lightning_modules.models.compute import nominal_rl_tokens, row_counts
from lightning_modules.models.group_forward import group_counts, groupable, grouped_logp
from lightning_modules.models.language_model import disable_dropout
from lightning_modules.optimizers import AdamW, OptimizerFactory
from lightning_modules.policy.clip import Clip
from lightning_modules.policy.collector import GroupSampling, MorePrompts
from lightning_modules.policy.experience import Experience, ExperienceBatch, lay_out
from lightning_modules.policy.kl_penalty import KLPenalty
from lightning_modules.policy.reference import ReferencePolicy
from lightning_modules.rewards import Credit, Reward
from lightning_modules.rollout import SamplingParams
from lightning_modules.schedules import Constant, Schedule


class PolicyModule(GroupSampling):
    """A policy that learns from its own verified solutions. Subclasses give `assess` and `training_step`."""

    def __init__(
        self, init_from: str, reward: Reward, *, credit: Credit | None = None, group_size: int = 8, minibatches: int = 1,
        epochs: int = 1, resample: int = 0, clip: Clip = Clip(), beta: float = 0.0, kl: KLPenalty = KLPenalty(),
        verify_workers: int = 0, sampling: SamplingParams = SamplingParams(), optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None, evaluation: Evaluation = Evaluation(),
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: prices a verified response.
            credit: prices places within it besides; None: nothing.
            group_size: G, completions per prompt.
            minibatches: parts a rollout is cut into; each is one training step.
            epochs: passes over a rollout.
            resample: how often problems whose completions all earn the same are replaced by fresh ones (DAPO's dynamic sampling).
            clip: how far from the sampling policy an update may go.
            beta: weight of KL(pi || reference), at the start where it adapts; 0 needs no reference.
            kl: how that divergence is estimated and charged, and from what.
            verify_workers: processes that judge responses; 0: this one does.
            sampling: how rollouts are sampled; ratios are those of the whole distribution, also where `top_p` or `top_k` cut it.
            optimizer: AdamW where not given.
            schedule: constant where not given.
            evaluation: how validation, test and prediction sample.
        """
        super().__init__(
            init_from, optimizer or AdamW(lr=1e-6, weight_decay=0.01), schedule or Constant(), evaluation, reward=reward,
            credit=credit, group_size=group_size, resample=resample, sampling=sampling, verify_workers=verify_workers,
        )  # fmt: skip
        if beta < 0 or (kl.target is not None and beta == 0):
            raise ValueError(f"beta={beta} must be at least 0, and above 0 where `kl.target` steers it.")
        if min(minibatches, epochs) < 1:
            raise ValueError(f"minibatches={minibatches} and epochs={epochs} must be at least 1.")
        self.minibatches, self.epochs, self.clip, self.beta, self.kl = minibatches, epochs, clip, beta, kl
        self.reference = ReferencePolicy(init_from, kl.reference_decay)
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.int64))
        self.kl_weight = beta

    @abstractmethod
    def assess(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """Set `advantage_NT` of each batch."""

    def matters(self, experience: Experience) -> Tensor:
        """[N] bool: rows that have a gradient. Asked only where there is no reference, whose pull every row feels."""
        return torch.ones(len(experience.tokens_NT), dtype=torch.bool)

    def configure_model(self) -> None:
        """Build or load the language model, once, without dropout: the policy that learns is the one that sampled."""
        if self.language_model is None:
            super().configure_model()
            disable_dropout(self.language_model)

    @property
    def looks_back(self) -> bool:
        """Whether log-probabilities at the rollout are needed; in its only update the policy is the one that sampled."""
        return self.minibatches * self.epochs > 1 or self.beta > 0

    def token_logp(self, tokens_NT: Tensor, mask_NT: Tensor, model: PreTrainedModel | None = None) -> Tensor:
        """Log-probability of each sampled token at the sampling temperature: [N, T] ids, [N, T-1] bool -> [N, T-1] nats.

        0 where the mask is false, so that no ratio there overflows.
        """
        model = model or self.language_model
        if groupable(model):
            return grouped_logp(model, tokens_NT, mask_NT, temperature=self.sampling.temperature)
        # right-padded rows under a causal mask: padding is never seen, so there is no mask to pass
        logp_NT = self.next_logp(model(input_ids=tokens_NT[:, :-1], use_cache=False).logits, tokens_NT)
        return torch.where(mask_NT, logp_NT, 0.0)

    def counts(self, tokens_NT: Tensor, mask_NT: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens that `token_logp` passes through a model, and what they attend to."""
        return group_counts(tokens_NT, mask_NT) if groupable(self.language_model) else row_counts(mask_NT)

    def next_logp(self, logits_NTV: Tensor, tokens_NT: Tensor) -> Tensor:
        """[N, T-1, V] logits and [N, T] ids -> log-probability of each next token, [N, T-1] nats."""
        logp_NTV = (logits_NTV.float() / self.sampling.temperature).log_softmax(-1)
        return logp_NTV.gather(-1, tokens_NT[:, 1:, None]).squeeze(-1)

    def snapshot(self, tokens_NT: Tensor, mask_NT: Tensor) -> dict[str, Tensor]:
        """What the policy that sampled says of rows, by fields of ExperienceBatch; asked where it `looks_back`."""
        return {"logp_old_NT": self.token_logp(tokens_NT, mask_NT)}

    def collect(self, prompts: PromptBatch, more: MorePrompts) -> list[ExperienceBatch]:
        """Sample G solutions to each prompt, judge and price them: the minibatches of one rollout.

        Args:
            prompts: B problems.
            more: fresh problems by attempt (from 1) and number, where groups are replaced.

        Raises:
            ValueError: there are fewer completions than minibatches.
        """
        problems, length = len(prompts.indices), self.language_model.config.max_position_embeddings
        if problems * self.group_size < self.minibatches:
            raise ValueError(
                f"a rollout of {problems} problems x {self.group_size} completions cannot be cut into {self.minibatches} "
                "minibatches; lower `minibatches`, or raise `prompts_per_rollout` or `group_size`."
            )
        self.compute.add_nominal(nominal_rl_tokens(problems, self.group_size, length, reference=bool(self.beta)))
        experience = lay_out(self._rollout(prompts, more), self.tokenizer.pad_token_id).to(self.device)
        divisors = self._divisors(experience)
        batches = [self.minibatch(experience, rows, divisors) for rows in self._parts(experience)]
        if self.beta:
            self._charge(experience, batches)
        for batch in batches:
            width = batch.mask_NT.shape[1]
            batch.token_rewards_NT = (experience.reward_NT + experience.credit_NT)[batch.rows_N, :width]
        self.assess(experience, batches)
        if self.beta:
            self.reference.follow(self.language_model, self.device)
        return batches

    def restore(self, states: Sequence[dict[str, Any]]) -> list[ExperienceBatch]:
        """Minibatches from what their `state_dict` gave."""
        return [ExperienceBatch(**state) for state in states]

    def _divisors(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """Tokens and completions of the rollout over its minibatches, the mean over processes; counts the tokens."""
        counts = torch.stack([experience.mask_NT.sum(), torch.tensor(len(experience.mask_NT), device=self.device)]).double()
        counts = self.trainer.strategy.reduce(counts, reduce_op="mean")
        self.tokens_seen += (counts[0] * self.trainer.world_size).round().long()
        tokens, sequences = (counts / self.minibatches).float()
        return tokens, sequences

    def _parts(self, experience: Experience) -> list[Tensor]:
        """Rows of each minibatch; those without a gradient are left out, but one row stays."""
        parts = torch.arange(len(experience.tokens_NT)).tensor_split(self.minibatches)
        if self.beta:
            return list(parts)
        matters_N = self.matters(experience).cpu()
        return [kept if len(kept := rows[matters_N[rows]]) else rows[:1] for rows in parts]

    def minibatch(self, experience: Experience, rows_N: Tensor, divisors: tuple[Tensor, Tensor]) -> ExperienceBatch:
        """Rows cut to their longest, with log-probabilities under the policy that sampled and the reference."""
        rows_N = rows_N.to(self.device)
        width = int(experience.mask_NT[rows_N].any(dim=0).nonzero().max()) + 1
        tokens_NT, mask_NT = experience.tokens_NT[rows_N, : width + 1], experience.mask_NT[rows_N, :width]
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            old = self.snapshot(tokens_NT, mask_NT) if self.looks_back else {}
            ref_NT = self.token_logp(tokens_NT, mask_NT, self.reference.on(self.device)) if self.beta else None
        phases = {"old log-probabilities": self.looks_back, "reference log-probabilities": self.beta > 0}
        for phase in (name for name, ran in phases.items() if ran):
            self.compute.add(phase, self.counts(tokens_NT, mask_NT))
        tokens, sequences = divisors
        return ExperienceBatch(
            rows_N, tokens_NT, mask_NT, logp_ref_NT=ref_NT, logp_sampled_N=experience.logp_N[rows_N], tokens=tokens,
            sequences=sequences, **old,
        )  # fmt: skip

    def _charge(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """Steer the weight by how far this rollout strays from the reference; where asked for, take that off what tokens earn."""
        terms = [torch.where(b.mask_NT, self.kl.terms(b.logp_old_NT, b.logp_ref_NT), 0.0) for b in batches]
        sums = torch.stack([sum(kl_NT.sum() for kl_NT in terms), sum(b.mask_NT.sum() for b in batches)])
        kl, tokens = self.trainer.strategy.reduce(sums, reduce_op="mean").tolist()
        self.kl_weight = self.kl.next_weight(self.kl_weight, kl / tokens)
        self.rollout_log |= {"train/rollout_kl_nats": kl / tokens, "train/kl_weight": self.kl_weight}
        if self.kl.place == "reward":
            for batch, kl_NT in zip(batches, terms, strict=True):
                experience.reward_NT[batch.rows_N, : kl_NT.shape[1]] -= self.kl_weight * kl_NT

    def penalty(self, logp_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] beta KL(pi || ref) where it is part of the loss, else 0."""
        if not self.beta:
            return torch.zeros_like(logp_NT)
        kl_NT = self.kl.terms(logp_NT, batch.logp_ref_NT)
        self.log("train/kl_nats", token_mean(kl_NT.detach(), batch.mask_NT), sync_dist=True)
        return self.kl_weight * kl_NT if self.kl.place == "loss" else torch.zeros_like(logp_NT)

    def log_update(self, loss: Tensor, logp_NT: Tensor, log_ratio_NT: Tensor, batch: ExperienceBatch) -> dict[str, Any]:
        """Log a training step and the rollout behind it; returns its outputs."""
        log_ratio_NT, old_NT = log_ratio_NT.detach(), torch.where(batch.mask_NT, batch.old(logp_NT), 0.0)
        gap_N = (old_NT.sum(dim=1) - batch.logp_sampled_N).abs()
        held_back_NT = self.clip.holds_back(log_ratio_NT, batch.advantage_NT)
        update_log = {
            "train/loss": loss,
            "train/ratio": token_mean(log_ratio_NT.exp(), batch.mask_NT),
            "train/clipped": token_mean(held_back_NT.float(), batch.mask_NT),
            "train/sampler_gap_nats": gap_N.sum() / batch.mask_NT.sum(),
        }
        self.log_dict(update_log, sync_dist=True)
        self.log_dict(self.rollout_log)
        self.log("train/tokens", self.tokens_seen.float())
        self.compute.add("update", self.counts(batch.tokens_NT, batch.mask_NT))
        return {"loss": loss, "tokens": batch.mask_NT.sum()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the reference and the weight of the penalty, which may have moved, and what is known of the rollout under way."""
        super().on_save_checkpoint(checkpoint)
        state = {"reference": self.reference.state_dict(), "kl_weight": self.kl_weight, "rollout_log": self.rollout_log}
        checkpoint["policy"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them; a weight that does not adapt is the one set."""
        super().on_load_checkpoint(checkpoint)
        if "policy" not in checkpoint:
            raise ValueError(
                "the checkpoint is of another kind of stage; to learn from its weights give it as `model.init_args.init_from`, "
                "to evaluate it give the config of its own stage."
            )
        state = checkpoint["policy"]
        self.reference.load_state_dict(state["reference"])
        self.rollout_log = state["rollout_log"]
        if self.kl.target is not None:
            self.kl_weight = state["kl_weight"]
