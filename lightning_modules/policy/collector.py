"""Rollouts: groups of solutions to training problems, sampled, judged and scored.

Not here: how a policy learns from them (policy_module.py), the sampling engine (rollout/), scores (rewards/).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from math import nan

import torch
from torch import distributed

from datamodules.problems.keyed import keyed_generator
from datamodules.rows.documents import PromptBatch
from grammar import Report
from grammar.checking.pool import Verifier
from lightning_modules.evaluation import gold_text
from lightning_modules.models.compute import generation_counts
from lightning_modules.models.language_model import longest_text
from lightning_modules.models.sharding import gathered
from lightning_modules.policy.character_ends import CharacterEnds, token_at
from lightning_modules.policy.experience import Group, describe
from lightning_modules.policy.sample_weights import SampleWeights, checked_weights
from lightning_modules.rewards import Credit, OverlongPenalty, Reward, earn, score
from lightning_modules.rollout import Completions, Randomness, SamplingParams
from lightning_modules.schedules import Ramp
from lightning_modules.stage import StageModule

MorePrompts = Callable[[int, int], PromptBatch]  # attempt, number of problems -> problems


@dataclass(frozen=True)
class GroupSettings:
    """The completions of one problem.

    Args:
        size: G, completions per problem.
        resample: how many times groups whose completions all earn the same are replaced by fresh ones (DAPO's dynamic
            sampling, arXiv:2503.14476, 3.2).
        verify_workers: processes that judge completions; 0: the training process does.
        overlong: penalty on tokens, added to the reward of completions; it makes no group worth learning from, see
            `resample`. None: none.
        temperature: sampling temperature during the run, of rollouts alone; None: `sampling.temperature`.
        mask_truncated: completions that were cut have no loss (DAPO's overlong filtering, arXiv:2503.14476, 3.4); their rewards
            still count in the group's mean. Not with `overlong`, which would only raise the others.
        weights: weighs completions in the loss; None: all alike.
    """

    size: int = 8
    resample: int = 0
    verify_workers: int = 0
    overlong: OverlongPenalty | None = None
    temperature: Ramp | None = None
    mask_truncated: bool = False
    weights: SampleWeights | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and min(self.temperature.first, self.temperature.last) <= 0:
            raise ValueError(f"group.temperature: {self.temperature} must stay above 0.")
        if self.mask_truncated and self.overlong is not None:
            raise ValueError(
                "group: `mask_truncated` takes the loss from what `overlong` penalises most, and other wrong ones would gain; "
                "leave out one of them."
            )
        if self.size < 1 or self.resample < 0 or (self.resample and self.size < 2):
            raise ValueError(
                f"group: size={self.size} must be at least 1 (2 with `resample`), and resample={self.resample} at least 0."
            )


class RolloutCollector:
    """Builds groups of judged and scored solutions.

    log: statistics of the last rollout, by log name.
    """

    def __init__(
        self, stage: StageModule, reward: Reward, credit: Credit | None, group: GroupSettings, sampling: SamplingParams
    ) -> None:
        if sampling.temperature <= 0:
            raise ValueError("sampling.temperature must be above 0: a greedy rollout has no probability to learn from.")
        if group.overlong is not None and group.overlong.cache >= sampling.max_new_tokens:
            raise ValueError(
                f"group.overlong: a cache of {group.overlong.cache} tokens penalises every completion; lower it below "
                f"sampling.max_new_tokens={sampling.max_new_tokens}."
            )
        self.stage, self.reward, self.credit, self.group, self.sampling = stage, reward, credit, group, sampling
        self.verifier = Verifier(group.verify_workers)
        self.character_ends: CharacterEnds | None = None
        self.log: dict[str, float] = {}

    def collect(self, prompts: PromptBatch, more: MorePrompts) -> list[Group]:
        """A group for each prompt; groups that do not vary are replaced up to `group.resample` times."""
        stage = self.stage
        with gathered(stage.language_model):  # processes may resample different numbers of times
            groups = self._groups(prompts)
            found, sampled = describe(groups), len(groups)
            for attempt in range(1, self.group.resample + 1):
                flat = [place for place, group in enumerate(groups) if not group.varies]
                if not flat:
                    break
                fresh = self._groups(more(attempt, len(flat)))
                sampled += len(fresh)
                for place, group in zip(flat, (group for group in fresh if group.varies), strict=False):
                    groups[place] = group
        if self.group.resample:
            found["train/zero_variance_left"] = sum(not group.varies for group in groups) / len(groups)
            found["train/groups_sampled_per_group"] = sampled / len(groups)
        self.log = self._means(found)
        for callback in stage.trainer.callbacks:  # what `on_rollout` returns is logged with the next training steps
            if hasattr(callback, "on_rollout"):
                logged = callback.on_rollout(stage.trainer, stage, groups) or {}
                if not isinstance(logged, dict):
                    raise ValueError(f"{type(callback).__name__}.on_rollout returned {logged!r}; return numbers by log name.")
                self.log |= logged
        return groups

    def _means(self, found: dict[str, float]) -> dict[str, float]:
        """Means over the processes that found a number of that name: a reward may abstain in some."""
        strategy, names = self.stage.trainer.strategy, list(found)
        if self.stage.trainer.world_size > 1:
            everyones: list[list[str]] = [[]] * self.stage.trainer.world_size
            distributed.all_gather_object(everyones, names)
            names = list(dict.fromkeys(chain.from_iterable(everyones)))
        values = torch.tensor([found.get(name, nan) for name in names], device=self.stage.device)
        known = (~values.isnan()).float()
        means = strategy.reduce(values.nan_to_num(), reduce_op="mean") / strategy.reduce(known, reduce_op="mean")
        return dict(zip(names, means.tolist(), strict=True))

    def probe(self, prompts: PromptBatch, samples: int) -> list[list[Report]]:
        """[B][samples] reports on solutions sampled as in a rollout, which are not learned from.

        Samples depend on each problem alone, and rollouts are the same as without probes.
        """
        generators = [keyed_generator(f"probe/{example.id}/{example.problem}") for example in prompts.examples]
        with gathered(self.stage.language_model):
            return self._judged(prompts, samples, generators, "probe")[2]

    def _judged(
        self, prompts: PromptBatch, samples: int, randomness: Randomness, phase: str
    ) -> tuple[Completions, list[list[str]], list[list[Report]]]:
        """Completions, their [B][samples] texts and reports; sampling counts as compute of `phase`."""
        done, responses = self.stage.complete(prompts.prompt_ids, samples, self.sampling, randomness)
        self.stage.compute.add(phase, generation_counts([len(ids) for ids in prompts.prompt_ids], done.length_N))
        pairs = [(example.graph, texts) for example, texts in zip(prompts.examples, responses, strict=True)]
        return done, responses, self.verifier(pairs)

    def _groups(self, prompts: PromptBatch) -> list[Group]:
        """Sample, judge and score."""
        size = self.group.size
        done, responses, reports = self._judged(prompts, size, self._randomness(prompts), "rollout")
        rows, stop, groups = done.rows(), set(self.stage.stop_ids), []
        logps = [logp_T[: len(row)] for logp_T, row in zip(done.logp_NT.cpu(), rows, strict=True)]
        aligned = self.credit is not None and self.credit.aligned
        for b, (ids, texts, found) in enumerate(zip(prompts.prompt_ids, responses, reports, strict=True)):
            own = slice(b * size, (b + 1) * size)
            reward = self.reward.beside(gold_text(prompts.examples[b]))
            parts = [score(reward, text, report) for text, report in zip(texts, found, strict=True)]
            credit = self._credit(rows[own], texts, found)
            ended = [row[-1] in stop for row in rows[own]]
            overlong = self._overlong(len(ids), rows[own])
            group = Group(
                prompts.examples[b], ids, rows[own], logps[own], texts, found, parts, credit, aligned, ended, overlong=overlong
            )
            groups.append(replace(group, weights=self._weights(group)))
        return groups

    def _overlong(self, prompt: int, completions: list[list[int]]) -> list[float]:
        """Penalties on the tokens of completions, by how many fit behind a prompt of this length; empty: there are none."""
        if self.group.overlong is None:
            return []
        positions = longest_text(self.stage.language_model.config)
        longest = self.sampling.max_new_tokens if positions is None else min(self.sampling.max_new_tokens, positions - prompt)
        return [self.group.overlong(len(row), longest) for row in completions]

    def _weights(self, group: Group) -> list[float]:
        """Weights of a group's completions; empty if all are 1."""
        settings = self.group
        weights = checked_weights(settings.weights, group) if settings.weights else [1.0] * settings.size
        if settings.mask_truncated:
            weights = [weight * ended for weight, ended in zip(weights, group.ended, strict=True)]
        return weights if settings.weights or settings.mask_truncated else []

    def _randomness(self, prompts: PromptBatch) -> Randomness:
        """PyTorch's generator; with several processes, whose generators are equal, one per problem."""
        if self.stage.trainer.world_size == 1:
            return None
        return [keyed_generator(f"rollout/{torch.initial_seed()}/{index}") for index in prompts.indices]

    def _credit(self, completions: list[list[int]], texts: list[str], reports: list[Report]) -> list[list[tuple[int, float]]]:
        """Rewards of the steps of a group's completions, each with its last token; empty without `credit`."""
        if self.credit is None:
            return []
        if self.character_ends is None:
            self.character_ends = CharacterEnds(self.stage.tokenizer)
        ends_of = [self.character_ends(ids) for ids in completions]
        earned = zip(ends_of, earn(self.credit, texts, reports), strict=True)
        return [[(token_at(ends, place.end), place.reward) for place in places] for ends, places in earned]
