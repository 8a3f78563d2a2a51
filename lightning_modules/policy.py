"""What reinforcement learning stages share: sampled problems become experience, experience becomes minibatches.

The training loader calls `collect` once per rollout (datamodules/reinforcement.py), so a rollout comes from the weights that
the last update left. Not here: formulas (algorithms/), the loss (grpo.py).
"""

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from datamodules.batch import PromptBatch
from lightning_modules.compute import generation_counts, nominal_rl_tokens, row_counts
from lightning_modules.group_forward import groupable, grouped_logp
from lightning_modules.language_model import load_language_model
from lightning_modules.optimizers import AdamW, OptimizerFactory
from lightning_modules.reasoner import Evaluation, Reasoner, Rollout
from lightning_modules.rewards import Reward
from lightning_modules.rollout import SamplingParams
from lightning_modules.schedules import Constant, Schedule


@dataclass(slots=True)
class ExperienceBatch:
    """A minibatch of judged completions. Position t predicts token t+1; T covers prompt and completion.

    tokens_NT:    int64, prompt then completion then padding.
    mask_NT:      bool, true where position t predicts a sampled token.
    advantage_NT: what each sampled token is worth more than expected.
    logp_old_NT:  log-probability under the policy that sampled, nats; None where it is the policy that learns, as in the only
                  update of a rollout.
    logp_ref_NT:  the same under the reference policy; None without one.
    tokens:       sampled tokens of the whole rollout over its number of minibatches: the divisor of a token mean
                  that stays right when gradients of minibatches are accumulated.
    """

    tokens_NT: Tensor
    mask_NT: Tensor
    advantage_NT: Tensor
    logp_old_NT: Tensor | None
    logp_ref_NT: Tensor | None
    tokens: Tensor

    def to(self, device: torch.device, **kwargs: bool) -> Self:
        """Move every tensor, as Lightning's transfer asks."""
        values = (getattr(self, f.name) for f in fields(self))
        return type(self)(*(None if v is None else v.to(device, **kwargs) for v in values))


class PolicyModule(Reasoner):
    """A policy that learns from its own verified solutions. Subclasses give `advantages` and `training_step`."""

    def __init__(
        self, init_from: str, reward: Reward, *, group_size: int = 8, minibatches: int = 1, epochs: int = 1, beta: float = 0.0,
        sampling: SamplingParams = SamplingParams(), optimizer: OptimizerFactory | None = None, schedule: Schedule | None = None,
        evaluation: Evaluation = Evaluation(),
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy.
            reward: prices a verified response.
            group_size: G, completions per prompt.
            minibatches: parts a rollout is cut into; each is one training step.
            epochs: passes over a rollout.
            beta: weight of KL(pi || reference); 0 needs no reference.
            sampling: how rollouts are sampled.
            optimizer: AdamW where not given.
            schedule: constant where not given.
            evaluation: how validation, test and prediction sample.
        """
        super().__init__(None, init_from, optimizer or AdamW(lr=1e-6, weight_decay=0.01), schedule or Constant(), evaluation)
        if sampling.temperature <= 0:
            raise ValueError("sampling.temperature must be above 0: a greedy rollout has no probability to learn from.")
        self.reward, self.sampling = reward, sampling
        self.group_size, self.minibatches, self.epochs, self.beta = group_size, minibatches, epochs, beta
        self.reference: list[PreTrainedModel] = []  # in a list: no submodule, so not in checkpoints; it is `init_from`
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.int64))

    @property
    def updates_per_rollout(self) -> int:
        """Training steps that one call of `collect` feeds."""
        return self.minibatches * self.epochs

    @abstractmethod
    def advantages(self, rewards_BG: Tensor) -> Tensor:
        """[B, G] rewards -> [B, G] advantages."""

    def token_logp(self, tokens_NT: Tensor, model: PreTrainedModel | None = None, *, mask_NT: Tensor | None = None) -> Tensor:
        """Log-probability of each next token at the sampling temperature: [N, T] ids -> [N, T-1] nats.

        With `mask_NT`, only where it is true (0 elsewhere), which lets a prompt pass once for its group.
        """
        model = model or self.language_model
        if mask_NT is not None and groupable(model):
            return grouped_logp(model, tokens_NT, mask_NT, temperature=self.sampling.temperature)
        # right-padded rows under a causal mask: padding is never seen, so there is no mask to pass
        logits_NTV = model(input_ids=tokens_NT[:, :-1], use_cache=False).logits
        logp_NTV = (logits_NTV.float() / self.sampling.temperature).log_softmax(-1)
        return logp_NTV.gather(-1, tokens_NT[:, 1:, None]).squeeze(-1)

    def collect(self, prompts: PromptBatch) -> list[ExperienceBatch]:
        """Sample G solutions to each prompt, judge and price them: the minibatches of one rollout."""
        rollout = self.sample(prompts, self.group_size, self.sampling)
        self.compute.add("rollout", generation_counts([len(ids) for ids in prompts.prompt_ids], rollout.completions.length_N))
        length = self.language_model.config.max_position_embeddings
        self.compute.add_nominal(nominal_rl_tokens(len(prompts.indices), self.group_size, length, reference=bool(self.beta)))
        rewards_BG = self._price(rollout)
        advantage_N = self.advantages(rewards_BG).flatten()
        tokens_NT, mask_NT = self._rows(prompts, rollout)
        self.tokens_seen += mask_NT.sum()
        per_batch = mask_NT.sum() / self.minibatches
        batches = []
        for rows in torch.arange(len(tokens_NT)).chunk(self.minibatches):
            rows = self._that_matter(rows, advantage_N)
            width = int(mask_NT[rows].any(dim=0).nonzero().max()) + 2  # last predicted token included
            tokens, mask = tokens_NT[rows, :width], mask_NT[rows, : width - 1]
            with torch.no_grad(), self.trainer.precision_plugin.forward_context():
                old = self.token_logp(tokens, mask_NT=mask) if self.updates_per_rollout > 1 else None
                ref = self.token_logp(tokens, self._reference(), mask_NT=mask) if self.beta else None
            for phase, logp in (("old log-probabilities", old), ("reference log-probabilities", ref)):
                if logp is not None:
                    self.compute.add(phase, row_counts(mask))
            batches.append(ExperienceBatch(tokens, mask, advantage_N[rows, None].expand_as(mask), old, ref, per_batch))
        return batches

    def _that_matter(self, rows: Tensor, advantage_N: Tensor) -> Tensor:
        """Leave out rows without advantage where nothing else pulls at them: their gradient is exactly 0. One row stays."""
        if self.beta:
            return rows
        kept = rows[advantage_N[rows].cpu() != 0]
        return kept if len(kept) else rows[:1]

    def _reference(self) -> PreTrainedModel:
        if not self.reference:
            self.reference.append(load_language_model(self.init_from).to(self.device).eval().requires_grad_(False))
        return self.reference[0]

    def _price(self, rollout: Rollout) -> Tensor:
        """[B, G] rewards; their named parts are logged with the next training step."""
        parts = [
            [self.reward(response, report) for response, report in zip(*group, strict=True)]
            for group in zip(rollout.responses, rollout.reports, strict=True)
        ]
        rewards_BG = torch.tensor([[sum(part.values()) for part in group] for group in parts], device=self.device)
        n = rewards_BG.numel()
        self.rollout_log = {f"train/reward/{k}": sum(p[k] for g in parts for p in g) / n for k in parts[0][0]}
        self.rollout_log |= {
            "train/reward": rewards_BG.mean().item(),
            "train/zero_variance": (rewards_BG == rewards_BG[:, :1]).all(dim=1).float().mean().item(),
            "train/response_tokens": rollout.completions.length_N.float().mean().item(),
            **{f"train/{g}": rollout.passed(g).float().mean().item() for g in ("answer", "executable")},
        }
        return rewards_BG

    def _rows(self, prompts: PromptBatch, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Prompt and completion side by side: tokens [N, T] and the mask [N, T-1] of predictions of sampled tokens."""
        starts = [ids for ids in prompts.prompt_ids for _ in range(self.group_size)]
        ends = rollout.completions.rows()
        rows = [torch.tensor([*a, *b]) for a, b in zip(starts, ends, strict=True)]
        tokens_NT = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id).to(self.device)
        target_T = torch.arange(1, tokens_NT.shape[1], device=self.device)
        first_N1 = torch.tensor([len(a) for a in starts], device=self.device)[:, None]
        return tokens_NT, (target_T >= first_N1) & (target_T < first_N1 + rollout.completions.length_N[:, None])

    def log_rollout(self) -> None:
        """Log what the rollout behind this step was like."""
        self.log_dict(self.rollout_log)
        self.log("train/tokens", self.tokens_seen.float())
