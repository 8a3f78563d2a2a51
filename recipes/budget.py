"""A token budget shared between mid-training and RL, as numbers of steps (arXiv:2512.07783, section 5 and A.10)."""

from dataclasses import dataclass
from typing import NamedTuple

from lightning_modules.compute import nominal_rl_tokens


@dataclass(frozen=True)
class StepSizes:
    """What one step takes.

    tokens_per_step:   of mid-training (rows x row length x accumulation x devices).
    prompts_per_step:  of RL: problems of one rollout on all devices.
    rollouts:          r, completions per problem.
    length:            L, nominal tokens of prompt and completion together.
    reference:         whether RL has a reference model.
    updates_per_step:  optimiser steps that RL takes on one rollout, which is what `trainer.max_steps` counts.
    """

    tokens_per_step: int = 524_288
    prompts_per_step: int = 1024
    rollouts: int = 6
    length: int = 2048
    reference: bool = True
    updates_per_step: int = 1

    @property
    def tokens_per_rl_step(self) -> float:
        """Supervised tokens that cost as much as one RL step, nominally."""
        return nominal_rl_tokens(self.prompts_per_step, self.rollouts, self.length, reference=self.reference)


class Steps(NamedTuple):
    """Steps of mid-training, steps (rollouts) of RL, and the problems that these see."""

    mid: int
    rl: int
    prompts: float


def split_budget(tokens: float, rl_share: float, sizes: StepSizes = StepSizes()) -> Steps:
    """Share a budget: T_mid = (1 - beta) T, and RL for beta T of nominal cost.

    Mid-training steps are rounded down and RL steps to the nearest, as the paper's Table 3 has them.

    Args:
        tokens: T, the budget in training tokens.
        rl_share: beta, the share of RL within 0 and 1.
        sizes: what one step takes.

    Raises:
        ValueError: a share outside 0 ... 1, or a budget below one step.
    """
    if not 0 <= rl_share <= 1:
        raise ValueError(f"budget: rl_share={rl_share} is not within 0 and 1.")
    mid = int((1 - rl_share) * tokens / sizes.tokens_per_step + 1e-9)
    rl_steps = rl_share * tokens / sizes.tokens_per_rl_step
    if mid == round(rl_steps) == 0:
        raise ValueError(f"budget: {tokens:g} tokens are less than one step; raise `budget.tokens`.")
    return Steps(mid, round(rl_steps), rl_steps * sizes.prompts_per_step)
