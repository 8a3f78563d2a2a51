"""A token budget shared between mid-training and RL, as numbers of steps (arXiv:2512.07783, section 5 and A.10)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml

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


@dataclass(frozen=True)
class Budget:
    """What a recipe's `budget` says.

    tokens:   T, shared by the two stages.
    rl_share: beta: 0 full mid-training, 0.2 light, 0.5 medium, 0.8 heavy, 1 full RL.
    mid, rl:  names of the two stages.
    devices:  that each stage runs on.
    length:   L, nominal tokens of prompt and completion together.
    """

    tokens: float
    rl_share: float
    mid: str = "midtrain"
    rl: str = "grpo"
    devices: int = 1
    length: int = 2048

    def sizes(self, mid: Path, rl: Path) -> StepSizes:
        """What one step takes, from the configs of the two stages.

        Raises:
            ValueError: a config without what sizes a step, or RL whose updates are no whole number per rollout.
        """
        trainer, data, _ = _parts(mid)
        rows = _number(mid, data, "row_length") * _number(mid, data, "batch_rows")
        per_step = _batch_tokens(mid) or rows * trainer.get("accumulate_grad_batches", 1) * self.devices
        rl_trainer, rl_data, model = _parts(rl)
        updates, rest = divmod(model.get("minibatches", 1) * model.get("epochs", 1), rl_trainer.get("accumulate_grad_batches", 1))
        if rest:
            raise ValueError(f"budget: {rl}: minibatches x epochs must be a multiple of `accumulate_grad_batches`.")
        return StepSizes(
            tokens_per_step=per_step,
            prompts_per_step=_number(rl, rl_data, "prompts_per_rollout") * self.devices,
            rollouts=_number(rl, model, "group_size"), length=self.length, reference=bool(model.get("beta")),
            updates_per_step=updates,
        )  # fmt: skip


def read_budget(raw: object, path: Path) -> Budget:
    """Read a recipe's `budget`.

    Raises:
        ValueError: a missing or unknown key.
    """
    known = {field.name for field in fields(Budget)}
    if not isinstance(raw, Mapping) or not {"tokens", "rl_share"} <= raw.keys() <= known:
        raise ValueError(f"{path}: `budget` has the keys {sorted(known)}, of which tokens and rl_share are needed; got {raw!r}.")
    return Budget(**{**raw, "tokens": float(raw["tokens"])})


def _batch_tokens(config: Path) -> int | None:
    """Tokens of an update on all devices together, where the config fixes them."""
    whole = yaml.safe_load(config.read_text(encoding="utf-8"))
    return (whole.get("budget") or {}).get("batch_tokens")


def _parts(config: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Settings of the trainer, the data module and the module of a config; a part may stand in a file of its own."""
    whole = yaml.safe_load(config.read_text(encoding="utf-8"))
    parts = {}
    for name in ("trainer", "data", "model"):
        part = whole.get(name) or {}
        parts[name] = yaml.safe_load((config.parent / part).read_text(encoding="utf-8")) if isinstance(part, str) else part
    return parts["trainer"], parts["data"].get("init_args", {}), parts["model"].get("init_args", {})


def _number(config: Path, settings: Mapping[str, Any], key: str) -> int:
    if not isinstance(settings.get(key), int):
        raise ValueError(f"budget: {config} does not set `{key}`, which sizes a step; add it.")
    return settings[key]


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
