"""A recipe: stages that start from one another's weights, read from YAML and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recipes.budget import Budget, read_budget, split_budget

KEYS = {"about", "stages", "budget"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One LightningCLI config.

    name:      also the stage's folder.
    config:    a file under `configs/experiment/`.
    init_from: name of the earlier stage whose weights it starts from; None: what the config says.
    settings:  further arguments, such as the steps that a budget leaves it.
    """

    name: str
    config: Path
    init_from: str | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stages in the order in which they run; `about` is printed above the table."""

    stages: tuple[Stage, ...]
    about: str = ""


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; configs are found relative to its file.

    Raises:
        ValueError: no such file, an unknown key, a missing config, or a stage that starts from none before it.
    """
    if not path.is_file():
        raise ValueError(f"recipe {str(path)!r} does not exist; see configs/recipe/.")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, Mapping) or not isinstance(raw.get("stages"), Mapping) or not raw.keys() <= KEYS:
        raise ValueError(f"{path}: a recipe has the keys `stages` (name -> config, init_from), `about` and `budget`.")
    stages: dict[str, Stage] = {}
    for name, entry in raw["stages"].items():
        stages[name] = _stage(path, name, entry, earlier=set(stages))
    if "budget" in raw:
        stages = spend(read_budget(raw["budget"], path), stages)
    return Recipe(tuple(stages.values()), raw.get("about", ""))


def spend(budget: Budget, stages: dict[str, Stage]) -> dict[str, Stage]:
    """Give the stages of a budget their steps; one that is left none is taken out, and what started from it goes one back.

    Raises:
        ValueError: the budget names a stage that is not there, or one whose steps cannot be sized from its config.
    """
    for name in (budget.mid, budget.rl):
        if name not in stages:
            raise ValueError(f"budget: {name!r} is no stage; set `mid` and `rl` to two of {sorted(stages)}.")
    sizes = budget.sizes(stages[budget.mid].config, stages[budget.rl].config)
    steps = split_budget(budget.tokens, budget.rl_share, sizes)
    left = {budget.mid: steps.mid, budget.rl: steps.rl * sizes.updates_per_step}
    kept: dict[str, Stage] = {}
    for name, stage in stages.items():
        source = stage.init_from
        while source is not None and left.get(source) == 0:
            source = stages[source].init_from
        if left.get(name) != 0:
            steps_of = ("--trainer.max_steps", str(left.get(name)), "--budget.max_tokens", "null")
            extra = (*steps_of, "--trainer.devices", str(budget.devices)) if name in left else ()
            kept[name] = replace(stage, init_from=source, settings=extra)
    return kept


def _stage(path: Path, name: str, entry: Any, earlier: set[str]) -> Stage:
    if not isinstance(entry, Mapping) or not {"config"} <= entry.keys() <= {"config", "init_from"}:
        raise ValueError(f"{path}: stage {name!r} has the keys `config` and, optionally, `init_from`; got {entry!r}.")
    config = (path.parent / entry["config"]).resolve()
    if not config.is_file():
        raise ValueError(f"{path}: stage {name!r}: {config} does not exist.")
    source = entry.get("init_from")
    if source is not None and source not in earlier:
        raise ValueError(f"{path}: stage {name!r} starts from {source!r}, which is no stage before it ({sorted(earlier)}).")
    return Stage(name, config, source)
