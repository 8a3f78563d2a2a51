"""Groups of solutions to problems of training: sampled, judged, priced.

Not here: how a policy learns from them (policy.py), the sampling engine (rollout/), prices (rewards/).
"""

from collections.abc import Callable, Sequence

import torch

from datamodules.rows.batch import PromptBatch
from grammar import Report
from grammar.checking.pool import Verifier
from lightning_modules.evaluation import Evaluation
from lightning_modules.models.compute import generation_counts
from lightning_modules.models.sharding import gathered
from lightning_modules.optimizers import OptimizerFactory
from lightning_modules.policy.character_ends import CharacterEnds, token_at
from lightning_modules.policy.experience import Group, describe
from lightning_modules.rewards import Credit, Reward
from lightning_modules.rollout import Randomness, SamplingParams, keyed_generator
from lightning_modules.schedules import Schedule
from lightning_modules.stage import Reasoner

MorePrompts = Callable[[int, int], PromptBatch]  # attempt, number of problems -> problems


class GroupSampling(Reasoner):
    """A reasoner that makes groups of judged and priced solutions of the problems it is given."""

    def __init__(
        self, init_from: str, optimizer: OptimizerFactory, schedule: Schedule, evaluation: Evaluation, *, reward: Reward,
        credit: Credit | None, group_size: int, resample: int, sampling: SamplingParams, verify_workers: int,
    ) -> None:  # fmt: skip
        """Keep the settings; see `PolicyModule`."""
        super().__init__(None, init_from, optimizer, schedule, evaluation)
        if sampling.temperature <= 0:
            raise ValueError("sampling.temperature must be above 0: a greedy rollout has no probability to learn from.")
        if group_size < 1 or (resample and group_size < 2):
            raise ValueError(
                f"group_size={group_size} must be at least 1; to `resample` groups that do not vary, they need 2 completions."
            )
        self.reward, self.credit, self.sampling = reward, credit, sampling
        self.group_size, self.resample, self.verifier = group_size, resample, Verifier(verify_workers)
        self.character_ends: CharacterEnds | None = None
        self.rollout_log: dict[str, float] = {}

    def _rollout(self, prompts: PromptBatch, more: MorePrompts) -> list[Group]:
        """A judged group for each prompt; groups that do not vary are replaced as often as `resample` says."""
        with gathered(self.language_model):  # processes may sample differently often
            groups = self._groups(prompts)
            found, drawn = describe(groups), len(groups)
            for attempt in range(1, self.resample + 1):
                flat = [place for place, group in enumerate(groups) if not group.varies]
                if not flat:
                    break
                fresh = self._groups(more(attempt, len(flat)))
                drawn += len(fresh)
                for place, group in zip(flat, (group for group in fresh if group.varies), strict=False):
                    groups[place] = group
        if self.resample:
            found["train/zero_variance_left"] = sum(not group.varies for group in groups) / len(groups)
            found["train/groups_sampled_per_group"] = drawn / len(groups)
        means = self.trainer.strategy.reduce(torch.tensor([*found.values()], device=self.device), reduce_op="mean")
        self.rollout_log = dict(zip(found, means.tolist(), strict=True))
        self.announce(groups)
        return groups

    def announce(self, groups: Sequence[Group]) -> None:
        """Show a rollout to the callbacks that define `on_rollout`; what they return is logged with the next training steps."""
        for callback in self.trainer.callbacks:
            if hasattr(callback, "on_rollout"):
                self.rollout_log |= callback.on_rollout(self.trainer, self, groups) or {}

    def probe(self, prompts: PromptBatch, samples: int) -> list[list[Report]]:
        """[B][samples] what is true of solutions sampled as in a rollout, from which nothing is learnt.

        What is drawn depends on each problem alone, and rollouts are those that there would have been without.
        """
        generators = [keyed_generator(f"probe/{example.id}/{example.problem}") for example in prompts.examples]
        with gathered(self.language_model):
            done, responses = self.complete(prompts.prompt_ids, samples, self.sampling, generators)
        self.compute.add("probe", generation_counts([len(ids) for ids in prompts.prompt_ids], done.length_N))
        return self.verifier([(e.graph, texts) for e, texts in zip(prompts.examples, responses, strict=True)])

    def _groups(self, prompts: PromptBatch) -> list[Group]:
        """Sample, judge and price."""
        done, responses = self.complete(prompts.prompt_ids, self.group_size, self.sampling, self._randomness(prompts))
        self.compute.add("rollout", generation_counts([len(ids) for ids in prompts.prompt_ids], done.length_N))
        reports = self.verifier([(e.graph, texts) for e, texts in zip(prompts.examples, responses, strict=True)])
        rows, logp_N, groups = done.rows(), done.logp_NT.sum(dim=1).tolist(), []
        for b, (ids, texts, found) in enumerate(zip(prompts.prompt_ids, responses, reports, strict=True)):
            parts = [self.reward(text, report) for text, report in zip(texts, found, strict=True)]
            mine = slice(b * self.group_size, (b + 1) * self.group_size)
            credit = self._credit(rows[mine], texts, found)
            groups.append(Group(prompts.examples[b], ids, rows[mine], logp_N[mine], texts, found, parts, credit))
        return groups

    def _randomness(self, prompts: PromptBatch) -> Randomness:
        """PyTorch's generator; where there are several processes, whose generators are alike, one for each problem."""
        if self.trainer.world_size == 1:
            return None
        return [keyed_generator(f"rollout/{torch.initial_seed()}/{index}") for index in prompts.indices]

    def _credit(self, completions: list[list[int]], texts: list[str], reports: list[Report]) -> list[list[tuple[int, float]]]:
        """What places of a group's completions earn, by token; nothing without a price."""
        if self.credit is None:
            return []
        if self.character_ends is None:
            self.character_ends = CharacterEnds(self.tokenizer)
        ends_of = [self.character_ends(ids) for ids in completions]
        earned = zip(ends_of, self.credit(texts, reports), strict=True)
        return [[(token_at(ends, place.end), place.reward) for place in places] for ends, places in earned]

    def teardown(self, stage: str) -> None:
        """End the processes that judge."""
        super().teardown(stage)
        self.verifier.close()
