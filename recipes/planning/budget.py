"""A token budget shared between mid-training and RL, as numbers of steps (arXiv:2512.07783, section 5 and A.10)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from lightning_modules.models.compute import nominal_rl_tokens
from recipes.planning.resolve import processes


@dataclass(frozen=True)
class StepSizes:
    """The size of a step.

    tokens_per_step:   of mid-training (rows x row length x accumulation x devices).
    prompts_per_step:  of RL: problems of one rollout on all devices.
    rollouts:          r, completions per problem.
    length:            L, nominal tokens of prompt and completion together.
    reference:         whether RL has a reference model.
    updates_per_step:  optimiser steps of RL on one rollout; `trainer.max_steps` counts these.
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


@dataclass(frozen=True)
class Budget:
    """A recipe's `budget`.

    tokens:   T, shared by the two stages.
    rl_share: beta: 0 full mid-training, 0.2 light, 0.5 medium, 0.8 heavy, 1 full RL.
    mid, rl:  names of the two stages.
    devices:  of a node, for each of the two stages; None: as their configs say.
    length:   L, nominal tokens of prompt and completion together.
    mid_multiple: mid-training takes the nearest multiple of these updates, at which checkpoints of a longer run are kept.
    """

    tokens: float
    rl_share: float
    mid: str = "midtrain"
    rl: str = "grpo"
    devices: int | None = None
    length: int = 2048
    mid_multiple: int = 1

    def sizes(self, mid: Mapping[str, Any], rl: Mapping[str, Any]) -> StepSizes:
        """The size of a step, from the resolved configs of the two stages.

        Raises:
            ValueError: a config lacks a key that sizes a step or the number of devices, or RL does not take a whole number of
                updates per rollout.
        """
        for name, config in ((self.mid, mid), (self.rl, rl)):
            if processes(config) is None:
                raise ValueError(f"budget: stage {name!r} takes all available devices; set their number in `budget.devices`.")
        policy = rl["model"]["init_args"]
        return StepSizes(
            tokens_per_step=tokens_per_update(mid),
            prompts_per_step=_number(self.rl, rl, "data", "prompts_per_rollout") * processes(rl),
            rollouts=policy["group"]["size"], length=self.length, reference=bool(policy["kl"]["weight"]),
            updates_per_step=updates_per_rollout(rl),
        )  # fmt: skip


def tokens_per_update(config: Mapping[str, Any]) -> int:
    """Positions of packed rows, padding included, of one update on all devices ("auto" counts as one)."""
    fixed = (config.get("budget") or {}).get("batch_tokens")
    rows = _number("this stage", config, "data", "row_length") * _number("this stage", config, "data", "batch_rows")
    return fixed or rows * config["trainer"].get("accumulate_grad_batches", 1) * (processes(config) or 1)


def updates_per_rollout(config: Mapping[str, Any]) -> int:
    """Optimiser steps on one rollout.

    Raises:
        ValueError: their number is not whole.
    """
    update, accumulated = config["model"]["init_args"]["update"], config["trainer"].get("accumulate_grad_batches", 1)
    updates, rest = divmod(update["minibatches"] * update["epochs"], accumulated)
    if rest:
        raise ValueError("minibatches x epochs of an RL stage must be a multiple of its `accumulate_grad_batches`.")
    return updates


def read_budget(raw: object) -> Budget:
    """Read a recipe's `budget`.

    Raises:
        ValueError: a missing or unknown key.
    """
    known = {field.name for field in fields(Budget)}
    if not isinstance(raw, Mapping) or not {"tokens", "rl_share"} <= raw.keys() <= known:
        raise ValueError(f"`budget` has the keys {sorted(known)}, of which tokens and rl_share are needed; got {raw!r}.")
    if type(raw.get("mid_multiple", 1)) is not int or raw.get("mid_multiple", 1) < 1:
        raise ValueError(f"budget: mid_multiple={raw['mid_multiple']!r} must be a whole number from 1 on.")
    try:
        return Budget(**{**raw, "tokens": float(raw["tokens"])})
    except (TypeError, ValueError) as err:
        raise ValueError(f"`budget.tokens` is a number of tokens, e.g. 4.2e+9; got {raw['tokens']!r}.") from err


def _number(stage: str, config: Mapping[str, Any], part: str, key: str) -> int:
    value = config[part]["init_args"].get(key)
    if not isinstance(value, int):
        raise ValueError(f"budget: the config of {stage} does not set `{part}.init_args.{key}`, which sizes a step; add it.")
    return value


class Steps(NamedTuple):
    """Steps of mid-training, steps (rollouts) of RL, and the number of problems of the latter."""

    mid: int
    rl: int
    prompts: float


def split_budget(tokens: float, rl_share: float, sizes: StepSizes = StepSizes()) -> Steps:
    """Share a budget: T_mid = (1 - beta) T, and RL for beta T of nominal cost.

    Mid-training steps are rounded down and RL steps to the nearest, as the paper's Table 3 has them.

    Args:
        tokens: T, the budget in training tokens.
        rl_share: beta, the share of RL within 0 and 1.
        sizes: of a step.

    Raises:
        ValueError: a share outside 0 ... 1, or a budget below one step.
    """
    if not 0 <= rl_share <= 1:
        raise ValueError(f"budget: rl_share={rl_share} is outside [0, 1].")
    mid = int((1 - rl_share) * tokens / sizes.tokens_per_step + 1e-9)
    rl_steps = rl_share * tokens / sizes.tokens_per_rl_step
    if mid == round(rl_steps) == 0:
        raise ValueError(f"budget: {tokens:g} tokens are less than one step; raise `budget.tokens`.")
    return Steps(mid, round(rl_steps), rl_steps * sizes.prompts_per_step)
