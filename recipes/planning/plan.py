"""The plan of a recipe: for every arm and seed a chain of stages, each identified by a digest of its whole input.

Equal stages of several arms are one stage.
"""

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from recipes.mistakes import innermost
from recipes.planning.budget import read_budget, split_budget
from recipes.planning.layers import layered
from recipes.planning.recipe import Change, Recipe, Stage, without
from recipes.planning.resolve import DIGITS, Config, digest, kind_of, resolve
from recipes.rejection.rejection_sampling import RejectionSampling


@dataclass(frozen=True)
class Planned:
    """A stage with all its inputs.

    name:   in the recipe.
    config: resolved, without the parent's weights and the places of files.
    parent: the stage it starts from.
    digest: of its whole input.
    rejection: what it samples of the model that it starts from, to train on; None: it trains on its data.
    """

    name: str
    config: Config
    parent: "Planned | None"
    digest: str
    rejection: RejectionSampling | None = None

    @property
    def kind(self) -> str:
        """As `kind_of`."""
        return kind_of(self.config)

    @property
    def label(self) -> str:
        """Names its folder."""
        return f"{self.kind}-{self.digest}"

    def chain(self) -> "list[Planned]":
        """Its ancestors, then itself."""
        return [*(self.parent.chain() if self.parent else []), self]


@dataclass(frozen=True)
class Arm:
    """One combination of values, with one seed.

    name:   its values and its seed.
    values: axis -> value.
    stages: in the order in which they run.
    """

    name: str
    values: Mapping[str, str]
    seed: int
    stages: tuple[Planned, ...]

    def lineage(self) -> str:
        """Digest of what the arm is, whatever its seed."""
        found: dict[str, str] = {}
        for stage in (of for last in self.stages for of in last.chain()):
            seeds = {"seed_everything": stage.config["seed_everything"] - self.seed}
            data = stage.config["data"]["init_args"] | {"seed": stage.config["data"]["init_args"]["seed"] - self.seed}
            config = _changed(stage.config | seeds, "data", init_args=data)
            found[stage.digest] = digest(config, found[stage.parent.digest] if stage.parent else None, stage.rejection)
        return sha256("".join(found.values()).encode()).hexdigest()[:DIGITS]


@dataclass(frozen=True)
class Plan:
    """A recipe's arms."""

    recipe: Recipe
    arms: tuple[Arm, ...]

    def stages(self) -> dict[str, Planned]:
        """Digest -> stage, each once, in an order in which they can run."""
        return {stage.digest: stage for arm in self.arms for stage in arm.stages}


def only(plans: Sequence[Plan], patterns: Sequence[str]) -> list[Plan]:
    """The plans with the arms whose names match one of the patterns (`*`, `?`), without plans that have no such arm.

    Raises:
        ValueError: a pattern that matches no arm.
    """
    names = [arm.name for plan in plans for arm in plan.arms]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"--only {pattern!r} matches no arm; there are {', '.join(names)}.")
    kept = [(plan, tuple(arm for arm in plan.arms if any(fnmatchcase(arm.name, p) for p in patterns))) for plan in plans]
    return [Plan(plan.recipe, arms) for plan, arms in kept if arms]


# settings of a stage that are no keys of its config
SEED_SHIFT = "seed_shift"  # its seed is the run's plus this, so that one base is trained on twice
REJECTION = "rejection_sampling"  # it trains on solutions of the model that it starts from
# keys of a stage's config that the plan makes, and from what
MADE = {
    "seed_everything": f"--seed or `{SEED_SHIFT}`", "data.init_args.seed": f"--seed or `{SEED_SHIFT}`",
    "model.init_args.init_from": "the stage's `init_from`, or `skip` the stage that it starts from",
}  # fmt: skip


def make_plan(recipe: Recipe, seeds: Sequence[int] | None = None) -> Plan:
    """Plan every arm.

    Args:
        recipe: as it is written.
        seeds: replace the recipe's own.

    Raises:
        ValueError: a budget that cannot be divided, an arm without stages, two arms of one name, or a setting that `fit` would
            refuse or that the plan itself makes.
    """
    arms, resolved = [], {}
    for seed in dict.fromkeys(recipe.seeds if seeds is None else seeds):
        for chosen in product(*(values.items() for values in recipe.axes.values())):
            values = {axis: value for axis, (value, _) in zip(recipe.axes, chosen, strict=True)}
            name = "-".join([*values.values(), f"seed{seed}"])
            builder = _ArmBuilder(recipe, name, seed, [change for _, change in chosen], resolved)
            arms.append(Arm(name, values, seed, builder.stages()))
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"recipe {recipe.name!r}: two arms are named {twice[0]!r}, their values joined by '-'; rename a value.")
    return Plan(recipe, tuple(arms))


@dataclass(frozen=True)
class _ArmBuilder:
    """Plans the stages of one arm; `resolved` configs are shared by all arms."""

    recipe: Recipe
    arm: str
    seed: int
    changes: Sequence[Change]
    resolved: dict[str, Config]

    def stages(self) -> tuple[Planned, ...]:
        skipped = frozenset().union(*(change.skip for change in self.changes))
        stages = without(self.recipe.stages, skipped)
        if not stages:
            raise ValueError(f"recipe {self.recipe.name!r}: arm {self.arm!r} skips every stage; leave it one.")
        configs = {stage.name: self._config(stage) for stage in stages}
        if self.recipe.budget is not None:
            budget = dict(self.recipe.budget)
            for change in self.changes:
                budget |= change.budget
            stages = self._spend(budget, stages, configs)
        found: dict[str, Planned] = {}
        for stage in stages:
            config, parent = configs[stage.name], found[stage.init_from] if stage.init_from else None
            if parent is None and (start := self._start(stage)) is not None:
                config = _changed(config, "model", init_args=config["model"]["init_args"] | {"init_from": start})
            rejection = self._rejection(stage, config, parent)
            name = digest(config, parent.digest if parent else None, rejection)
            found[stage.name] = Planned(stage.name, config, parent, name, rejection)
        return tuple(found.values())

    def _start(self, stage: Stage) -> str | None:
        """Weights from outside that a chain starts from: those of its first stage in the recipe, even if this arm skips it."""
        written = {of.name: of for of in self.recipe.stages}
        first = written[stage.name]
        while first.init_from is not None:
            first = written[first.init_from]
        own = (replace(of, init_from=None) for of in (first, written[stage.name]))
        starts = (self._config(of)["model"]["init_args"].get("init_from") for of in own)
        return next((start for start in starts if start is not None), None)

    def _settings(self, stage: Stage) -> dict[str, Any]:
        return layered(stage.settings, *(change.settings.get(stage.name, {}) for change in self.changes))

    def _rejection(self, stage: Stage, config: Config, parent: Planned | None) -> RejectionSampling | None:
        """What the stage samples to train on, if it does."""
        raw = self._settings(stage).get(REJECTION)
        if raw is None:
            return None
        where = f"recipe {self.recipe.name!r}, stage {stage.name!r} of arm {self.arm!r}: {REJECTION}"
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        start = model.get("init_from")
        if parent is None and (start is None or not Path(start).exists()):
            raise ValueError(f"{where}: there is no model to sample from (init_from: {start}); give the stage `init_from`.")
        if "group" in model:
            raise ValueError(f"{where}: an RL stage samples by itself; give it to a stage that trains on solutions.")
        if data.get("mixture") is None or (data.get("files") or {}).get("train"):
            raise ValueError(f"{where}: problems come from the stage's `mixture`; set that, and no `files.train`.")
        if data.get("replay_share"):
            raise ValueError(f"{where}: own solutions take the place of `mixture` and `replay`; leave out `replay_share`.")
        try:
            return RejectionSampling.read(raw)
        except ValueError as err:
            raise ValueError(f"{where}: {err}") from err

    def _config(self, stage: Stage) -> Config:
        settings = self._settings(stage)
        settings.pop(REJECTION, None)
        shift = settings.pop(SEED_SHIFT, 0)
        if type(shift) is not int:
            raise self._refused(stage, f"{SEED_SHIFT} {shift!r} is added to the seed; give a whole number.")
        made: dict[str, Any] = {"seed_everything": self.seed + shift, "data.init_args.seed": self.seed + shift}
        if stage.init_from is not None:
            made["model.init_args.init_from"] = stage.init_from
        if both := settings.keys() & made.keys():
            raise self._refused(stage, f"`set: {{{min(both)}: ...}}` would be replaced; use {MADE[min(both)]}.")
        settings |= made
        key = repr((stage.configs, sorted(settings.items(), key=lambda item: item[0])))
        if key not in self.resolved:
            try:
                self.resolved[key] = resolve(stage.configs, settings)
            except (ValueError, ArgumentError) as err:
                raise self._refused(stage, innermost(str(err))) from err
        return self.resolved[key]

    def _refused(self, stage: Stage, reason: str) -> ValueError:
        return ValueError(f"recipe {self.recipe.name!r}, stage {stage.name!r} of arm {self.arm!r}: {reason}")

    @staticmethod
    def _spend(raw: Mapping[str, object], stages: list[Stage], configs: dict[str, Config]) -> list[Stage]:
        """Set the steps of a budget's two stages, and remove one that gets none."""
        budget = read_budget(raw)
        if not {budget.mid, budget.rl} & configs.keys():
            return stages  # an arm that skips both spends nothing
        if missing := {budget.mid, budget.rl} - configs.keys():
            raise ValueError(f"budget: {sorted(missing)} are no stages; set `mid` and `rl` to two of {sorted(configs)}.")
        if budget.devices is not None:
            for name in (budget.mid, budget.rl):
                configs[name] = _changed(configs[name], "trainer", devices=budget.devices)
        sizes = budget.sizes(configs[budget.mid], configs[budget.rl])
        steps = split_budget(budget.tokens, budget.rl_share, sizes)
        mid = round(steps.mid / budget.mid_multiple) * budget.mid_multiple
        if steps.mid and not mid:
            raise ValueError(f"budget: {steps.mid} updates of mid-training round to none by mid_multiple={budget.mid_multiple}.")
        left = {budget.mid: mid, budget.rl: steps.rl * sizes.updates_per_step}
        for name, count in left.items():
            configs[name] = _changed(
                _changed(configs[name], "trainer", max_steps=count), "budget", max_tokens=None, max_problems=None
            )
        return without(stages, frozenset(name for name, count in left.items() if not count))


def _changed(config: Config, part: str, **values: object) -> Config:
    """A copy of a config with other values in one part."""
    return config | {part: config[part] | values}


def in_order(plans: Sequence[Plan]) -> list[tuple[Planned, list[str]]]:
    """Each stage once, in an order in which they can run, with the names of its arms (and recipe, if there are several)."""
    users: dict[str, list[str]] = {}
    stages: dict[str, Planned] = {}
    for plan in plans:
        before = f"{plan.recipe.name}: " if len(plans) > 1 else ""
        stages |= plan.stages()
        for arm in plan.arms:
            for stage in arm.stages:
                users.setdefault(stage.digest, []).append(before + arm.name)
    return [(stage, users[name]) for name, stage in stages.items()]
