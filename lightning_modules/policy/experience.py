"""A rollout as data: groups of judged completions, then rows of tokens, then minibatches with advantages.

Shapes: B prompts, G completions each, N = B*G rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.problems.synthesis import Example
from grammar import Report, grade


@dataclass(slots=True)
class Group:
    """One problem and its G completions.

    example:     the problem.
    prompt:      token ids.
    completions: [G] token ids.
    logp:        [G] log-probabilities under the policy that sampled them, at the sampling temperature, nats.
    responses:   [G] the same as text.
    reports:     [G] what is true of them.
    parts:       [G] their rewards, by name of each part.
    credit:      [G] what steps earn as well: (last token of the step, reward); or empty.
    """

    example: Example
    prompt: list[int]
    completions: list[list[int]]
    logp: list[float]
    responses: list[str]
    reports: list[Report]
    parts: list[dict[str, float]]
    credit: list[list[tuple[int, float]]] = field(default_factory=list)

    @property
    def rewards(self) -> list[float]:
        """[G] the total reward of each completion."""
        return [sum(part.values()) for part in self.parts]

    @property
    def varies(self) -> bool:
        """Whether completions, or steps, differ in reward: nothing is learned from a group that does not vary."""
        return len(set(self.rewards)) > 1 or len({reward for places in self.credit for _, reward in places}) > 1


@dataclass(slots=True)
class Experience:
    """A whole rollout in rows, G of a problem side by side. Position t predicts token t+1; T covers prompt and completion.

    tokens_NT:  int64, prompt then completion then padding.
    mask_NT:    bool, true where position t predicts a sampled token.
    reward_NT:  the completion's reward, at its last token, less penalties of tokens.
    credit_NT:  what steps earn, at their last tokens.
    ends_NT:    bool, where steps end.
    logp_N:     log-probability of each completion as its sampler had it, nats.
    group_size: G.
    """

    tokens_NT: Tensor
    mask_NT: Tensor
    reward_NT: Tensor
    credit_NT: Tensor
    ends_NT: Tensor
    logp_N: Tensor
    group_size: int

    @property
    def rewards_BG(self) -> Tensor:
        """[B, G] what each completion earns, but for its steps."""
        return self.reward_NT.sum(dim=1).view(-1, self.group_size)

    def to(self, device: torch.device) -> Self:
        """Move every tensor."""
        tensors = (self.tokens_NT, self.mask_NT, self.reward_NT, self.credit_NT, self.ends_NT, self.logp_N)
        return type(self)(*(tensor.to(device) for tensor in tensors), self.group_size)


@dataclass(slots=True)
class ExperienceBatch:
    """A minibatch of a rollout, cut to its longest row.

    rows_N:       which rows of the rollout these are.
    tokens_NT, mask_NT: as in Experience.
    logp_sampled_N: log-probability of each completion as its sampler had it, nats.
    logp_old_NT:  log-probability of each sampled token under the policy that sampled, nats; None where that is the policy that
                  learns, as in the only update of a rollout.
    logp_ref_NT:  the same under the reference policy; None without one.
    tokens:       sampled tokens of the whole rollout over its number of minibatches, the mean over processes: the divisor of a
                  token mean that stays right when gradients of minibatches and processes are averaged.
    sequences:    the same for completions.
    value_NT:     what a critic expects before each sampled token; None without one.
    token_rewards_NT: what each sampled token earns: the completion's reward and those of its steps, less penalties.
    advantage_NT: how much more each sampled token earns than expected.
    return_NT:    what the critic should expect.
    """

    rows_N: Tensor
    tokens_NT: Tensor
    mask_NT: Tensor
    logp_sampled_N: Tensor
    logp_ref_NT: Tensor | None
    tokens: Tensor
    sequences: Tensor
    logp_old_NT: Tensor | None = None
    value_NT: Tensor | None = None
    token_rewards_NT: Tensor | None = None
    advantage_NT: Tensor | None = None
    return_NT: Tensor | None = None

    def to(self, device: torch.device, **kwargs: bool) -> Self:
        """Move every tensor, as Lightning's transfer asks."""
        return type(self)(**{k: None if v is None else v.to(device, **kwargs) for k, v in self.state_dict().items()})

    def old(self, logp_NT: Tensor) -> Tensor:
        """Log-probabilities under the policy that sampled; `logp_NT` are those under the policy that learns."""
        return logp_NT.detach() if self.logp_old_NT is None else self.logp_old_NT

    def state_dict(self) -> dict[str, Tensor | None]:
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
    credit_NT, ends_NT = torch.zeros_like(reward_NT), torch.zeros_like(reward_NT, dtype=torch.bool)
    for n, places in enumerate(places for group in groups for places in group.credit or [[]] * len(group.completions)):
        for token, reward in places:
            t = len(pairs[n][0]) + token - 1  # the position that predicts it
            credit_NT[n, t] += reward
            ends_NT[n, t] = True
    mask_NT = (target_T >= first_N1) & (target_T < end_N1)
    logp_N = torch.tensor([logp for group in groups for logp in group.logp])
    return Experience(tokens_NT, mask_NT, reward_NT, credit_NT, ends_NT, logp_N, len(groups[0].completions))


def describe(groups: Sequence[Group]) -> dict[str, float]:
    """Statistics of groups, by log name; parts of the reward by their names."""
    parts = [part for group in groups for part in group.parts]
    reports = [report for group in groups for report in group.reports]
    n = len(parts)
    steps = [reward for group in groups for places in group.credit for _, reward in places]
    return {
        **{f"train/reward/{name}": sum(part[name] for part in parts) / n for name in parts[0]},
        "train/reward": sum(sum(group.rewards) for group in groups) / n,
        **({"train/credit": sum(steps) / n} if any(group.credit for group in groups) else {}),
        "train/zero_variance": sum(not group.varies for group in groups) / len(groups),
        "train/response_tokens": sum(len(ids) for group in groups for ids in group.completions) / n,
        **{f"train/{grader}": sum(grade(report, grader) for report in reports) / n for grader in ("answer", "executable")},
    }
