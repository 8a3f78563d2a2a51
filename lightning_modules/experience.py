"""What a rollout becomes: groups of judged completions, then rows of tokens, then minibatches with advantages.

Shapes: B prompts, G completions each, N = B*G rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.synthesis import Example
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
    parts:       [G] what they are worth, by name.
    """

    example: Example
    prompt: list[int]
    completions: list[list[int]]
    logp: list[float]
    responses: list[str]
    reports: list[Report]
    parts: list[dict[str, float]]

    @property
    def rewards(self) -> list[float]:
        """[G] what each completion is worth in all."""
        return [sum(part.values()) for part in self.parts]

    @property
    def varies(self) -> bool:
        """Whether completions differ in reward: a group that does not vary has nothing to learn from."""
        return len(set(self.rewards)) > 1


@dataclass(slots=True)
class Experience:
    """A whole rollout in rows, G of a problem side by side. Position t predicts token t+1; T covers prompt and completion.

    tokens_NT:  int64, prompt then completion then padding.
    mask_NT:    bool, true where position t predicts a sampled token.
    reward_NT:  what each sampled token earns: the completion's reward at its last one.
    group_size: G.
    """

    tokens_NT: Tensor
    mask_NT: Tensor
    reward_NT: Tensor
    group_size: int

    @property
    def rewards_BG(self) -> Tensor:
        """[B, G] what each completion earns in all."""
        return self.reward_NT.sum(dim=1).view(-1, self.group_size)

    def to(self, device: torch.device) -> Self:
        """Move every tensor."""
        return type(self)(*(t.to(device) for t in (self.tokens_NT, self.mask_NT, self.reward_NT)), self.group_size)


@dataclass(slots=True)
class ExperienceBatch:
    """A minibatch of a rollout, cut to its longest row.

    rows_N:       which rows of the rollout these are.
    tokens_NT, mask_NT: as in Experience.
    logp_old_NT:  log-probability of each next token under the policy that sampled, nats.
    logp_ref_NT:  the same under the reference policy; None without one.
    tokens:       sampled tokens of the whole rollout over its number of minibatches, the mean over processes: the divisor of a
                  token mean that stays right when gradients of minibatches and processes are averaged.
    sequences:    the same for completions.
    token_rewards_NT: what each sampled token earns, penalties in the reward taken off.
    advantage_NT: what each sampled token is worth more than expected.
    """

    rows_N: Tensor
    tokens_NT: Tensor
    mask_NT: Tensor
    logp_old_NT: Tensor
    logp_ref_NT: Tensor | None
    tokens: Tensor
    sequences: Tensor
    token_rewards_NT: Tensor | None = None
    advantage_NT: Tensor | None = None

    def to(self, device: torch.device, **kwargs: bool) -> Self:
        """Move every tensor, as Lightning's transfer asks."""
        return type(self)(**{k: None if v is None else v.to(device, **kwargs) for k, v in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor | None]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def lay_out(groups: Sequence[Group], pad_id: int) -> Experience:
    """Prompt and completion side by side, row by row."""
    pairs = [(group.prompt, completion) for group in groups for completion in group.completions]
    tokens_NT = pad_sequence([torch.tensor([*a, *b]) for a, b in pairs], batch_first=True, padding_value=pad_id)
    target_T = torch.arange(1, tokens_NT.shape[1])
    first_N1, length_N1 = (torch.tensor([[len(pair[i])] for pair in pairs]) for i in (0, 1))
    end_N1 = first_N1 + length_N1
    reward_N1 = torch.tensor([[reward] for group in groups for reward in group.rewards], dtype=torch.float32)
    reward_NT = torch.where(target_T == end_N1 - 1, reward_N1, 0.0)
    return Experience(tokens_NT, (target_T >= first_N1) & (target_T < end_N1), reward_NT, len(groups[0].completions))


def describe(groups: Sequence[Group]) -> dict[str, float]:
    """What groups are like, by log name; parts of the reward by their own names."""
    parts = [part for group in groups for part in group.parts]
    reports = [report for group in groups for report in group.reports]
    n = len(parts)
    return {
        **{f"train/reward/{name}": sum(part[name] for part in parts) / n for name in parts[0]},
        "train/reward": sum(sum(group.rewards) for group in groups) / n,
        "train/zero_variance": sum(not group.varies for group in groups) / len(groups),
        "train/response_tokens": sum(len(ids) for group in groups for ids in group.completions) / n,
        **{f"train/{grader}": sum(grade(report, grader) for report in reports) / n for grader in ("answer", "executable")},
    }
