"""The base of reinforcement learning stages: rollouts become experience, experience becomes minibatches.

The training loader calls `collect` once per rollout (datamodules/reinforcement.py), so a rollout comes from the weights after the
last update. Not here: sampling and judging (collector.py), formulas (formulas/), the loss (grpo.py, ppo.py).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from transformers import PreTrainedModel

from datamodules.earlier_arguments import EarlierArguments
from datamodules.rows.documents import PromptBatch
from datamodules.rows.vocabulary import entries_in_use
from grammar import Report
from lightning_modules.formulas import entropy_bonus
from lightning_modules.models.attention import Backend, backend_of_edges
from lightning_modules.models.compute import ledger, nominal_rl_tokens, row_counts
from lightning_modules.models.group_forward import group_counts, groupable, grouped_logp
from lightning_modules.models.label_scores import head_fault, scored
from lightning_modules.models.language_model import disable_dropout, longest_text
from lightning_modules.models.passes import Lengths, Rows, in_passes, levelled, plan
from lightning_modules.models.row_layouts import Layout, Padded, SideBySide
from lightning_modules.models.sharding import gathered
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.collector import GroupSettings, MorePrompts, RolloutCollector
from lightning_modules.policy.experience import Experience, ExperienceBatch, check_shape, to_experience
from lightning_modules.policy.sampler_correction import SamplerCorrection, sampler_gap
from lightning_modules.policy.surrogate import PolicyLoss, UpdateTokens
from lightning_modules.policy.trust_region import Clip, KLPenalty, ReferencePolicy
from lightning_modules.policy.update_log import UpdateLog
from lightning_modules.rewards import Credit, Reward
from lightning_modules.rollout import SamplingParams
from lightning_modules.schedules import Constant
from lightning_modules.stage import StageModule

REFERENCE = "reference log-probabilities"  # a phase of the cost of training


@dataclass(frozen=True)
class UpdateSettings:
    """Use of a rollout for updates.

    Args:
        minibatches: parts of a rollout; each is one training step.
        epochs: passes over a rollout.
        correction: weights where the sampler's probabilities are not the trainer's; None: none.
        entropy_weight: of a bonus on the policy's entropy, see `entropy_bonus`.
    """

    minibatches: int = 1
    epochs: int = 1
    correction: SamplerCorrection | None = None
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.entropy_weight < 0:
            raise ValueError(f"update: entropy_weight={self.entropy_weight} must be at least 0.")
        if min(self.minibatches, self.epochs) < 1:
            raise ValueError(f"update: minibatches={self.minibatches} and epochs={self.epochs} must be at least 1.")


class PolicyModule(StageModule, metaclass=EarlierArguments):
    """A policy that learns from its own verified solutions. Subclasses define `compute_advantages` and `training_step`."""

    learns_from_samples = True
    relative_to_group: ClassVar[bool] = False  # a completion's advantage depends on the rewards of its group
    default_optimizer, default_schedule = AdamW(lr=1e-6, weight_decay=0.01), Constant()  # the rate is that of the paper's RL

    earlier_arguments: ClassVar = {
        "group_size": "group.size", "resample": "group.resample", "verify_workers": "group.verify_workers",
        "minibatches": "update.minibatches", "epochs": "update.epochs", "beta": "kl.weight",
    }  # fmt: skip

    def __init__(
        self, init_from: str, reward: Reward, *, credit: Credit | None = None, group: GroupSettings = GroupSettings(),
        update: UpdateSettings = UpdateSettings(), clip: Clip = Clip(), kl: KLPenalty = KLPenalty(),
        sampling: SamplingParams = SamplingParams(), **stage: Any,
    ) -> None:  # fmt: skip
        """Build the parts; `configure_model` builds the models.

        Args:
            init_from: weights of an earlier stage, which are also the reference policy's.
            reward: scores a verified response.
            credit: also scores places within it; None: none.
            group: completions per problem, and when they are replaced.
            update: minibatches and passes of a rollout.
            clip: how far from the sampling policy an update may go.
            kl: penalty on the divergence from the reference policy.
            sampling: how rollouts are sampled; ratios are those of the whole distribution even if `top_p` or `top_k` truncate it.
            stage: `optimizer`, `schedule` and `evaluation`; see StageModule.
        """
        super().__init__(None, init_from, **stage)
        if kl.target is not None and not kl.weight:
            raise ValueError("kl: `target` needs a weight to adapt; set `kl.weight` above 0.")
        if (
            update.correction
            and sampling.engine == "vllm"
            and (group.temperature is not None or sampling.temperature not in (0, 1))
        ):
            raise ValueError("update.correction needs log-probabilities, which vLLM has at temperature 1 alone; leave one out.")
        self.collector = RolloutCollector(self, reward, credit, group, sampling)
        self.group, self.update, self.clip, self.kl, self.sampling = group, update, clip, kl, sampling
        self.epochs = update.epochs  # read by the training loader
        if self.lora and (kl.reference_decay < 1 or kl.reset_every):
            raise ValueError("kl: a policy with adapters has a fixed reference; leave out `reference_decay` and `reset_every`.")
        teacher, own = kl.reference or init_from, kl.reference is None
        self.reference = ReferencePolicy(lambda: self.shard(self.load(teacher)), kl.reference_decay, teacher=not own)
        self.kl_weight, self.rollouts = kl.weight, 0
        self.update_log = UpdateLog(self)
        self.policy_loss: PolicyLoss | Clip = clip
        self.backend: Backend | None = None  # of rows that lie side by side; None: they are padded
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.int64))

    def choose(self, policy_loss: PolicyLoss | None) -> None:
        """Take a surrogate in place of clipping; None: keep clipping.

        Raises:
            ValueError: a clip is set too, which would do nothing.
        """
        if policy_loss is not None and self.clip != Clip():
            raise ValueError(
                "`clip` is the default policy loss; leave out `policy_loss`, or `clip` (over a config that sets it: "
                "`clip: {low: 0.2, high: null, dual: null}`)."
            )
        self.policy_loss = policy_loss or self.clip

    @property
    def progress(self) -> float:
        """Share of the run's updates that are done."""
        return self.trainer.global_step / self.trainer.max_steps

    @abstractmethod
    def compute_advantages(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """Set `advantage_NT` of each batch."""

    def has_gradient(self, experience: Experience) -> Tensor:
        """[N] bool: rows that have a gradient. Used only without a reference, which gives every row a gradient."""
        return torch.ones(len(experience.tokens_NT), dtype=torch.bool)

    def configure_model(self) -> None:
        """Build or load the language model, once, without dropout: the policy learns as it sampled."""
        if self.language_model is None:
            super().configure_model()
            disable_dropout(self.language_model)
            own = self.lora and self.kl.weight and not self.reference.teacher
            if own and getattr(self.language_model, "grown", False):
                raise ValueError("kl: with `lora` the embedding learns new tokens, and the reference's with it; mid-train first.")

    def setup(self, stage: str) -> None:
        """Choose how rows lie."""
        super().setup(stage)
        if stage == "fit":
            self.update_log.start()
            if self.reference.teacher:
                self._check_teacher()
        with self.trainer.precision_plugin.forward_context():
            half = "16" in str(self.trainer.precision)
            self.backend = backend_of_edges(self.language_model, self.trainer.strategy.root_device, half=half)

    def _check_teacher(self) -> None:
        """Load the teacher, and see whether it knows the tokenizer and how its logits come from its head."""
        if not Path(self.kl.reference).exists():
            raise ValueError(f"kl.reference {self.kl.reference!r} does not exist; train the teacher, or correct it.")
        teacher = self.reference.on(self.trainer.strategy.root_device)
        rows = teacher.config.get_text_config().vocab_size
        positions, own = longest_text(teacher.config), longest_text(self.language_model.config)
        if positions is not None and (own is None or positions < own):
            rank_zero_warn(
                f"kl.reference {self.kl.reference!r} has {positions} positions, the policy {own or 'any number'}; longer "
                "completions end the run."
            )
        if (ids := entries_in_use(self.tokenizer, rows)) > rows:
            raise ValueError(f"kl.reference {self.kl.reference!r} has {rows} entries, the tokenizer {ids}; take another teacher.")
        with gathered(teacher), self.trainer.precision_plugin.forward_context():
            self.whole_logits_of_teacher = head_fault(teacher) is not None

    @property
    def needs_old_logp(self) -> bool:
        """Whether log-probabilities at the rollout are needed; in its only update the policy is still the one that sampled."""
        return self.update.minibatches * self.update.epochs > 1 or self.kl.weight > 0

    def token_logp(self, rows: Rows, model: PreTrainedModel | None = None) -> Tensor:
        """Log-probability of each sampled token at the sampling temperature: [N, T-1] nats.

        0 where the mask is false, so that no ratio there overflows.
        """
        model = model or self.language_model
        return in_passes(partial(self._token_logp, model), rows, self.passes(rows.lengths))[0]

    def _token_logp(self, model: PreTrainedModel, rows: Rows) -> tuple[Tensor]:
        """`token_logp` of one pass."""
        if self.grouped(rows.lengths) and groupable(model, rows.tokens_NT.shape[1]):
            whole = self.whole_logits_of(model)
            return (grouped_logp(model, rows.tokens_NT, rows.mask_NT, temperature=self.sampling.temperature, whole=whole),)
        layout = Padded(rows) if self._is_teacher(model) else self.layout(rows)  # side by side is for the policy's attention
        return (layout.spread(self.next_logp(model, layout)[0]),)

    def reference_logp(self, rows: Rows) -> Tensor:
        """`token_logp` under the reference policy."""
        with self.reference.standing_in(self.language_model, self.device) as model:
            longest, length = longest_text(model.config), rows.tokens_NT.shape[1]
            if self.reference.teacher and longest is not None and length > longest:
                raise ValueError(
                    f"kl.reference {self.kl.reference!r} has {longest} positions, a prompt with its completion {length}; lower "
                    "`sampling.max_new_tokens`, or take another teacher."
                )
            return self.token_logp(rows, model)

    def grouped(self, lengths: Lengths) -> bool:
        """Whether rows that share a prompt pass it through the model once."""
        return groupable(self.language_model, max(end for _, end in lengths))

    def layout(self, rows: Rows) -> Layout:
        """The rows of a pass as they go through a model."""
        return Padded(rows) if self.backend is None else SideBySide(rows, self.backend)

    def passes(self, lengths: Lengths) -> list[list[int]]:
        """The rows of each pass; equally many for all processes, where sharded weights are gathered at each."""
        passes = plan(lengths, self.pass_tokens, by_length=not self.grouped(lengths))
        if self.device_mesh is None:
            return passes
        count = self.trainer.strategy.reduce(torch.tensor(len(passes), device=self.device), reduce_op="max")
        return levelled(passes, int(count))

    def counts(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Tokens that `token_logp` passes through a model in one pass, and the tokens they attend to."""
        return group_counts(rows.tokens_NT, rows.mask_NT) if self.grouped(rows.lengths) else row_counts(rows.mask_NT)

    def next_logp(self, model: PreTrainedModel, layout: Layout, *, states: bool = False) -> tuple[Tensor, Tensor | None]:
        """[P] log-probability of each sampled token, nats, and if asked the [P, H] last states of `model`."""
        last: list[Tensor | None] = []

        def forward() -> Tensor:
            outputs, found = layout.outputs(model, states=states)
            last.append(found)
            return outputs

        whole = self.whole_logits_of(model)
        logp_P, _ = scored(model, forward, layout.label_P, whole=whole, temperature=self.sampling.temperature)
        return logp_P, last[0]

    def whole_logits_of(self, model: PreTrainedModel) -> bool:
        """Whether a model, the policy, its reference or a teacher, needs all its logits at once."""
        return self.whole_logits_of_teacher if self._is_teacher(model) else self.whole_logits

    def _is_teacher(self, model: PreTrainedModel) -> bool:
        return self.reference.teacher and model is not self.language_model

    def old_outputs(self, rows: Rows) -> dict[str, Tensor]:
        """Outputs of the policy that sampled, by field of ExperienceBatch; called if `needs_old_logp`."""
        return {"logp_old_NT": self.token_logp(rows)}

    def collect(self, prompts: PromptBatch, more: MorePrompts) -> list[ExperienceBatch]:
        """Sample, judge and score G solutions to each prompt: the minibatches of one rollout.

        Args:
            prompts: B problems.
            more: fresh problems by attempt (from 1) and count, for groups that are replaced.

        Raises:
            ValueError: fewer completions than minibatches.
        """
        self._begin_rollout()
        problems, size, parts = len(prompts.indices), self.group.size, self.update.minibatches
        if problems * size < parts:
            raise ValueError(
                f"a rollout of {problems} problems x {size} completions cannot be cut into {parts} minibatches; lower "
                "`update.minibatches`, or raise `prompts_per_rollout` or `group.size`."
            )
        longest = max(map(len, prompts.prompt_ids)) + self.sampling.max_new_tokens
        length = longest_text(self.language_model.config) or longest
        self.compute.nominal_tokens += nominal_rl_tokens(problems, size, length, reference=bool(self.kl.weight))
        groups = self.collector.collect(prompts, more)
        if self.group.temperature is not None:
            self.collector.log["train/temperature"] = self.sampling.temperature
        experience = move_data_to_device(to_experience(groups, self.tokenizer.pad_token_id), self.device)
        divisors = self._divisors(experience)
        batches = [self.minibatch(experience, rows, divisors) for rows in self._rows_of_minibatches(experience)]
        if self.kl.weight:
            self._apply_kl(experience, batches)
        for batch in batches:
            width = batch.mask_NT.shape[1]
            batch.token_rewards_NT = (experience.reward_NT + experience.credit_NT)[batch.rows_N, :width]
        self.compute_advantages(experience, batches)
        if self.kl.weight:
            self.reference.update(self.language_model, self.device)
        return batches

    def _begin_rollout(self) -> None:
        """What is due before a rollout: its temperature, and every `kl.reset_every` rollouts a new start."""
        if self.group.temperature is not None:
            self._set_temperature(self.group.temperature(self.progress))
        if self.kl.reset_every and self.rollouts and self.rollouts % self.kl.reset_every == 0:
            self.reference.reset(self.language_model, self.device)
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()
        self.rollouts += 1

    def _set_temperature(self, temperature: float) -> None:
        self.sampling = self.collector.sampling = replace(self.sampling, temperature=temperature)

    def restore(self, states: Sequence[dict[str, Any]]) -> list[ExperienceBatch]:
        """Rebuild minibatches from their `state_dict`s; none if they lack a reference that this run asks for.

        Earlier versions kept neither lengths nor what the sampler said.
        """
        if self.kl.weight and any(state.get("logp_ref_NT") is None for state in states):
            return []
        found = []
        for state in states:
            earlier = {"logp_sampled_NT": None, "weight_N1": torch.ones(len(state["rows_N"]), 1)}
            batch = ExperienceBatch(**earlier | {key: value for key, value in state.items() if key != "logp_sampled_N"})
            batch.lengths = batch.lengths or Rows.of(batch.tokens_NT, batch.mask_NT).lengths
            found.append(batch)
        return found

    def probe(self, prompts: PromptBatch, samples: int) -> list[list[Report]]:
        """[B][samples] reports on solutions that are not learned from; see `RolloutCollector.probe`."""
        return self.collector.probe(prompts, samples)

    def _divisors(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """Mean weighted tokens and completions of a minibatch, over minibatches and processes; also counts the tokens."""
        counts = torch.cat([experience.mask_NT.sum().double()[None], experience.weighted_counts()])
        seen, *counts = self.trainer.strategy.reduce(counts, reduce_op="mean")
        self.tokens_seen += (seen * self.trainer.world_size).round().long()
        counts = torch.stack(counts)
        counts = torch.where(counts > 0, counts, 1.0)  # 0: there is nothing to learn from
        tokens, sequences = (counts / self.update.minibatches).float()
        return tokens, sequences

    def _rows_of_minibatches(self, experience: Experience) -> list[Tensor]:
        """Rows with a gradient; each minibatch keeps at least one row."""
        parts = torch.arange(len(experience.tokens_NT)).tensor_split(self.update.minibatches)
        every_row = self.kl.weight or self.update.entropy_weight or self.policy_loss.whole_rollout
        learned_N = experience.weight_N.cpu() != 0
        if self.relative_to_group and self.kl.weight and self.kl.place == "reward":
            learned_N[:] = True  # a row of weight 0 is charged, too: its reward is in its group's mean
        if not every_row:
            learned_N &= self.has_gradient(experience).cpu()
        return [kept if len(kept := rows[learned_N[rows]]) else rows[:1] for rows in parts]

    def minibatch(self, experience: Experience, rows_N: Tensor, divisors: tuple[Tensor, Tensor]) -> ExperienceBatch:
        """Rows cut to the longest, with log-probabilities under the policy that sampled and the reference."""
        lengths = [experience.lengths[n] for n in rows_N.tolist()]
        rows_N = rows_N.to(self.device)
        width = max(end for _, end in lengths)
        tokens_NT, mask_NT = experience.tokens_NT[rows_N, :width], experience.mask_NT[rows_N, : width - 1]
        rows = Rows(tokens_NT, mask_NT, lengths)
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            ref_NT = self.reference_logp(rows) if self.kl.weight else None  # first: a pass has the room that its weights leave
            old = self.old_outputs(rows) if self.needs_old_logp else {}
        phases = {"old log-probabilities": self.needs_old_logp, REFERENCE: self.kl.weight > 0}
        for phase in (name for name, ran in phases.items() if ran):
            self.compute.add(phase, self.counts(rows))
        tokens, sequences = divisors
        return ExperienceBatch(
            rows_N, tokens_NT, mask_NT, lengths=lengths, logp_ref_NT=ref_NT,
            logp_sampled_NT=experience.logp_NT[rows_N, : width - 1], tokens=tokens, sequences=sequences,
            weight_N1=experience.weight_N[rows_N, None], **old,
        )  # fmt: skip

    def ledger(self, sums: Mapping[str, Any]) -> dict[str, Any]:
        """The cost of training; a teacher's passes count at its own size."""
        teacher = self.reference.teacher and REFERENCE in sums["phases"]
        return ledger(sums, self.language_model.config, {REFERENCE: self.reference.on(self.device).config} if teacher else None)

    def _apply_kl(self, experience: Experience, batches: Sequence[ExperienceBatch]) -> None:
        """Adapt the weight to the rollout's divergence from the reference; with `place: reward`, charge it to rewards."""
        terms = [torch.where(b.mask_NT, self.kl.terms(b.logp_old_NT, b.logp_ref_NT), 0.0) for b in batches]
        sums = torch.stack([sum(kl_NT.sum() for kl_NT in terms), sum(b.mask_NT.sum() for b in batches)])
        kl, tokens = self.trainer.strategy.reduce(sums, reduce_op="mean").tolist()
        self.kl_weight = self.kl.next_weight(self.kl_weight, kl / tokens)
        self.collector.log |= {"train/rollout_kl_nats": kl / tokens, "train/kl_weight": self.kl_weight}
        if self.kl.place == "reward":
            for batch, kl_NT in zip(batches, terms, strict=True):
                experience.reward_NT[batch.rows_N, : kl_NT.shape[1]] -= self.kl_weight * kl_NT

    def gain(self, logp_NT: Tensor, log_ratio_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] the surrogate of each token, corrected for the sampler, plus the bonus on entropy."""
        gain_NT = self.policy_loss.surrogate(self._tokens(logp_NT, log_ratio_NT, batch))
        check_shape(gain_NT, logp_NT, f"{type(self.policy_loss).__name__}: surrogate")
        if self.update.correction is not None and batch.logp_sampled_NT is not None:
            weights_NT = self.update.correction.weights(batch.old(logp_NT), batch.logp_sampled_NT, batch.mask_NT)
            self.update_log.mean("train/sampler_weight", weights_NT, batch.mask_NT)
            gain_NT = gain_NT * weights_NT
        return gain_NT + self.update.entropy_weight * entropy_bonus(logp_NT) if self.update.entropy_weight else gain_NT

    def _tokens(self, logp_NT: Tensor, log_ratio_NT: Tensor, batch: ExperienceBatch) -> UpdateTokens:
        return UpdateTokens(log_ratio_NT, batch.advantage_NT, logp_NT, batch.old(logp_NT), batch.mask_NT)

    def penalty(self, logp_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] weight * KL(pi || reference) if the penalty is in the loss, else 0."""
        if not self.kl.weight:
            return torch.zeros_like(logp_NT)
        kl_NT = self.kl.terms(logp_NT, batch.logp_ref_NT)
        self.update_log.mean("train/kl_nats", kl_NT, batch.mask_NT)
        return self.kl_weight * kl_NT if self.kl.place == "loss" else torch.zeros_like(logp_NT)

    def log_update(self, loss: Tensor, logp_NT: Tensor, log_ratio_NT: Tensor, batch: ExperienceBatch) -> dict[str, Any]:
        """Log a training step and the rollout behind it; returns its outputs."""
        tokens = self._tokens(logp_NT.detach(), log_ratio_NT.detach(), batch)
        self.update_log.add("train/loss", loss)
        self.update_log.mean("train/ratio", tokens.log_ratio_NT.exp(), batch.mask_NT)
        self.update_log.mean("train/clipped", self.policy_loss.held_back(tokens).float(), batch.mask_NT)
        if batch.logp_sampled_NT is not None:
            gap_NT = sampler_gap(tokens.logp_old_NT, batch.logp_sampled_NT, batch.mask_NT)
            self.update_log.mean("train/sampler_gap_nats", gap_NT, batch.mask_NT)
            self.update_log.most("train/sampler_gap_max_nats", gap_NT.max())
        self.update_log.rollout(self.collector.log)
        self.log("train/tokens", self.tokens_seen.float())
        self.compute.add("update", self.counts(batch.rows))
        return {"loss": loss, "tokens": batch.mask_NT.sum()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what may have moved (reference, weight of the penalty, temperature), and the log of the current rollout."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["policy"] = {
            "reference": self.reference.state_dict(), "kl_weight": self.kl_weight, "rollout_log": self.collector.log,
            "rollouts": self.rollouts, "temperature": self.sampling.temperature,
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what was saved; a weight that does not adapt stays as configured."""
        super().on_load_checkpoint(checkpoint)
        if "policy" not in checkpoint:
            raise ValueError(
                "the checkpoint is of another kind of stage; to learn from its weights set `model.init_args.init_from` to it, "
                "to evaluate it use the config of its stage."
            )
        state = checkpoint["policy"]
        self.reference.load_state_dict(state["reference"])
        self.collector.log, self.rollouts = state["rollout_log"], state.get("rollouts", 0)
        if self.group.temperature is not None:
            self._set_temperature(state["temperature"])
        if self.kl.target is not None:
            self.kl_weight = state["kl_weight"]

    def teardown(self, stage: str) -> None:
        """End the processes that judge."""
        super().teardown(stage)
        self.collector.verifier.close()
