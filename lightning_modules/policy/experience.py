"""A rollout as data: groups of judged completions, then rows of tokens, then minibatches with advantages.

Shapes: B prompts, G completions each, N = B*G rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.problems.synthesis import Example
from grammar import Report, grade
from lightning_modules.models.passes import Lengths, Rows


@dataclass(slots=True)
class Group:
    """One problem and its G completions.

    example:     the problem.
    prompt:      token ids.
    completions: [G] token ids.
    token_logp:  [G] log-probabilities of its tokens according to the sampler, at the sampling temperature, nats, on the CPU.
    responses:   [G] texts.
    reports:     [G] verdicts.
    parts:       [G] rewards, by name of each part; none: the reward abstains.
    credit:      [G] rewards of steps: (last token of the step, reward); or empty.
    aligned:     whether reward number k is about the same thing in all G; see `Credit`.
    ended:       [G] whether it ended by itself, or was cut; empty: all did.
    weights:     [G] weights in the loss; empty: all 1.
    overlong:    [G] penalties on tokens, added to the rewards; empty: none.
    """

    example: Example
    prompt: list[int]
    completions: list[list[int]]
    token_logp: list[Tensor]
    responses: list[str]
    reports: list[Report]
    parts: list[dict[str, float]]
    credit: list[list[tuple[int, float]]] = field(default_factory=list)
    aligned: bool = False
    ended: list[bool] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    overlong: list[float] = field(default_factory=list)

    @property
    def logp(self) -> list[float]:
        """[G] log-probability of each completion according to the sampler, nats."""
        return [float(row.sum()) for row in self.token_logp]

    @property
    def rewards(self) -> list[float]:
        """[G] total reward of each completion; where the reward abstains, the mean of the others."""
        penalties = self.overlong or [0.0] * len(self.parts)
        totals = [sum(part.values()) + penalty if part else None for part, penalty in zip(self.parts, penalties, strict=True)]
        judged = [total for total in totals if total is not None]
        mean = sum(judged) / len(judged) if judged else 0.0
        return [mean if total is None else total for total in totals]

    @property
    def varies(self) -> bool:
        """Whether completions that are judged, or steps, differ in reward; otherwise nothing is learned but to be short."""
        judged = [sum(part.values()) for part in self.parts if part]
        earned = [[reward for _, reward in places] for places in self.credit]
        compared = zip(*earned, strict=True) if self.aligned else [[reward for row in earned for reward in row]]
        return any(len(set(rewards)) > 1 for rewards in (judged, *compared))


def check_shape(found: Any, like: Tensor, what: str) -> None:
    """Refuse what would pass by broadcasting.

    Raises:
        ValueError: not a tensor of the shape of `like`.
    """
    if not isinstance(found, Tensor) or found.shape != like.shape:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{what} must return a tensor of shape {list(like.shape)}, not {got}.")


@dataclass(slots=True)
class Experience:
    """A whole rollout in rows, G of a problem side by side. Position t predicts token t+1; T covers prompt and completion.

    tokens_NT:  int64, prompt then completion then padding.
    mask_NT:    bool, true where position t predicts a sampled token.
    reward_NT:  the completion's reward, at its last token, less penalties of tokens.
    credit_NT:  rewards of steps, at their last tokens.
    ends_NT:    bool, where steps end.
    earned_NK:  rewards of steps, K of each row, padded with 0.
    place_NK:   their positions, padded with T.
    logp_NT:    log-probability of each sampled token according to the sampler, nats; else 0.
    ended_N:    bool, completions that ended by themselves.
    weight_N:   weights of the rows in the loss.
    lengths:    tokens of each prompt, and of prompt and completion, on the host.
    group_size: G.
    advantage_NT: once they are computed.
    """

    tokens_NT: Tensor
    mask_NT: Tensor
    reward_NT: Tensor
    credit_NT: Tensor
    ends_NT: Tensor
    earned_NK: Tensor
    place_NK: Tensor
    logp_NT: Tensor
    ended_N: Tensor
    weight_N: Tensor
    lengths: Lengths
    group_size: int
    advantage_NT: Tensor | None = None

    @property
    def rewards_BG(self) -> Tensor:
        """[B, G] reward of each completion, without its steps."""
        return self.reward_NT.sum(dim=1).view(-1, self.group_size)

    @property
    def lengths_BG(self) -> Tensor:
        """[B, G] tokens of each completion."""
        return self.by_group(self.mask_NT.sum(dim=1))

    @property
    def ended_BG(self) -> Tensor:
        """[B, G] bool, completions that ended by themselves; the others were cut."""
        return self.by_group(self.ended_N)

    def weighted_counts(self) -> Tensor:
        """[2] tokens and completions, each as often as its row's weight says."""
        weight_N = self.weight_N.double()
        return torch.stack([(self.mask_NT.sum(dim=1) * weight_N).sum(), weight_N.sum()])

    def by_group(self, rows_N: Tensor) -> Tensor:
        """[N, ...] -> [B, G, ...]."""
        return rows_N.unflatten(0, (-1, self.group_size))


@dataclass(slots=True)
class ExperienceBatch:
    """A minibatch of a rollout, cut to its longest row.

    rows_N:       numbers of the rows in the rollout.
    tokens_NT, mask_NT, lengths: as in Experience.
    logp_sampled_NT: log-probability of each sampled token according to the sampler, nats; None: a checkpoint did not keep it.
    logp_old_NT:  log-probability of each sampled token under the policy that sampled, nats; None in the only update of a
                  rollout, in which that policy is the one that learns.
    logp_ref_NT:  the same under the reference policy; None without one.
    tokens:       mean sampled tokens of a minibatch, over minibatches and processes: the divisor of a token mean that stays
                  correct when gradients are averaged.
    sequences:    the same for completions.
    value_NT:     value before each sampled token; None without a critic.
    token_rewards_NT: reward of each sampled token: the completion's and those of its steps, less penalties.
    advantage_NT: advantage of each sampled token.
    return_NT:    target of the critic.
    weight_N1:    weights of the rows in the loss; `tokens` and `sequences` are weighted with them.
    """

    rows_N: Tensor
    tokens_NT: Tensor
    mask_NT: Tensor
    logp_sampled_NT: Tensor | None
    logp_ref_NT: Tensor | None
    tokens: Tensor
    sequences: Tensor
    weight_N1: Tensor
    logp_old_NT: Tensor | None = None
    value_NT: Tensor | None = None
    token_rewards_NT: Tensor | None = None
    advantage_NT: Tensor | None = None
    return_NT: Tensor | None = None
    lengths: Lengths = ()

    @property
    def rows(self) -> Rows:
        """What a model sees."""
        return Rows(self.tokens_NT, self.mask_NT, self.lengths)

    def weighted(self, terms_NT: Tensor) -> Tensor:
        """[N, T] terms of the loss times the weight of their row."""
        return terms_NT * self.weight_N1

    def old(self, logp_NT: Tensor) -> Tensor:
        """Log-probabilities under the policy that sampled; `logp_NT` are those under the policy that learns."""
        return logp_NT.detach() if self.logp_old_NT is None else self.logp_old_NT

    def state_dict(self) -> dict[str, Tensor | Lengths | None]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def to_experience(groups: Sequence[Group], pad_id: int) -> Experience:
    """Rows of prompt and completion."""
    pairs = [(group.prompt, completion) for group in groups for completion in group.completions]
    tokens_NT = pad_sequence([torch.tensor([*a, *b]) for a, b in pairs], batch_first=True, padding_value=pad_id)
    target_T = torch.arange(1, tokens_NT.shape[1])
    first_N1, length_N1 = (torch.tensor([[len(pair[i])] for pair in pairs]) for i in (0, 1))
    end_N1 = first_N1 + length_N1
    reward_N1 = torch.tensor([[reward] for group in groups for reward in group.rewards], dtype=torch.float32)
    reward_NT = torch.where(target_T == end_N1 - 1, reward_N1, 0.0)
    rows = [places for group in groups for places in group.credit or [[]] * len(group.completions)]
    earned_NK = pad_sequence([torch.tensor([reward for _, reward in row], dtype=torch.float32) for row in rows], batch_first=True)
    places = [[len(prompt) - 1 + token for token, _ in row] for (prompt, _), row in zip(pairs, rows, strict=True)]  # predict them
    place_NK = pad_sequence(
        [torch.tensor(row, dtype=torch.int64) for row in places], batch_first=True, padding_value=len(target_T)
    )
    wider_NT = torch.zeros(len(pairs), len(target_T) + 1)
    credit_NT = wider_NT.scatter_add(1, place_NK, earned_NK)[:, :-1]
    ends_NT = wider_NT.scatter(1, place_NK, 1.0)[:, :-1] > 0
    mask_NT = (target_T >= first_N1) & (target_T < end_N1)
    logp_NT = torch.zeros(mask_NT.shape).masked_scatter(mask_NT, torch.cat([row for group in groups for row in group.token_logp]))
    size = len(groups[0].completions)
    ended_N = torch.tensor([ended for group in groups for ended in group.ended or [True] * size])
    lengths = [(len(prompt), len(prompt) + len(completion)) for prompt, completion in pairs]
    rewards = (reward_NT, credit_NT, ends_NT, earned_NK, place_NK)
    return Experience(tokens_NT, mask_NT, *rewards, logp_NT, ended_N, _weights(groups, size), lengths, size)


def _weights(groups: Sequence[Group], size: int) -> Tensor:
    """[N] weights of the rows, 0 where the reward abstains."""
    weights = [
        weight * bool(part) for group in groups for weight, part in zip(group.weights or [1.0] * size, group.parts, strict=True)
    ]
    return torch.tensor(weights)


def describe(groups: Sequence[Group]) -> dict[str, float]:
    """Statistics of groups, by log name; parts of the reward by their names."""
    parts = [part for group in groups for part in group.parts]
    reports = [report for group in groups for report in group.reports]
    n = len(parts)
    steps = [reward for group in groups for places in group.credit for _, reward in places]
    return {
        **{f"train/reward/{name}": sum(values) / len(values) for name, values in _by_name(parts).items()},
        **({"train/reward/overlong": sum(sum(group.overlong) for group in groups) / n} if groups[0].overlong else {}),
        "train/reward": sum(sum(group.rewards) for group in groups) / n,
        **({"train/credit": sum(steps) / n} if any(group.credit for group in groups) else {}),
        **({"train/abstained": sum(not part for part in parts) / n} if not all(parts) else {}),
        **({"train/truncated": sum(not end for group in groups for end in group.ended) / n} if groups[0].ended else {}),
        "train/zero_variance": sum(not group.varies for group in groups) / len(groups),
        "train/response_tokens": sum(len(ids) for group in groups for ids in group.completions) / n,
        **{f"train/{grader}": sum(grade(report, grader) for report in reports) / n for grader in ("answer", "executable")},
    }


def _by_name(parts: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """The values of each part, of the samples that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [part[name] for part in parts if name in part] for name in names}
