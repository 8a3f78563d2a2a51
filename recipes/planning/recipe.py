"""A recipe as it is written: stages that start from one another, and arms that vary them; read from YAML and checked.

A recipe uses the terms of its study ("edge", "hard"); a scale (`configs/scale/`) says what they mean for models of one size.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.yaml_text import read_yaml
from recipes.named_files import named_file
from recipes.planning.layers import layered
from recipes.planning.scale import Scale, config_files, load_scale

KEYS = {"about", "stages", "budget", "arms", "seeds", "scale", "figures", "unseen"}
STAGE_KEYS = {"config", "kind", "init_from", "use", "set"}
CHANGE_KEYS = {"use", "set"}
# key -> its type, an example
SHAPES: dict[str, tuple[Any, str]] = {
    "stages": (Mapping, "{pretrain: {kind: pretrain}}"), "arms": (Mapping, "{data: {base: {skip: [grpo]}, edge: {}}}"),
    "seeds": (list, "[0, 1, 2]"), "figures": (list, "[3, 10]"), "skip": (list, "[grpo]"),
    "set": (Mapping, "{trainer.max_steps: 100}"), "budget": (Mapping, "{tokens: 1.0e+9, rl_share: 0.2}"),
    "unseen": (list, "[hard]"), "scale": (str, "tiny"), "about": (str, "What it asks."),
}  # fmt: skip
NAME = re.compile(r"\w[\w.-]*")
NEVER_EMPTY = {"stages", "arms", "seeds"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One LightningCLI config.

    name:      in the recipe.
    configs:   files, later ones winning.
    init_from: name of the earlier stage whose weights it starts from; None: as the config says.
    settings:  dotted key -> value, above the files.
    """

    name: str
    configs: tuple[Path, ...]
    init_from: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """The changes that one value of an axis makes.

    settings: stage -> dotted key -> value.
    skip:     stages left out; a stage that starts from one starts from its parent.
    budget:   keys of the recipe's budget.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skip: frozenset[str] = frozenset()
    budget: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe.

    name:    the file's stem.
    stages:  in the order in which they run.
    about:   its question and method, for people.
    axes:    name -> value -> its changes; arms are all combinations.
    seeds:   every arm runs once with each.
    budget:  see `recipes.planning.budget`; None: stages say how long they run.
    scale:   the meaning of its terms; None if its stages name their configs.
    figures: of the paper, by number, that show its result best; the report draws them first.
    plain:   without arms: a stage keeps its files in a folder of its name.
    unseen:  bands, contexts and modes of evaluation that no stage is meant to see, besides the scale's; None: not said.
    """

    name: str
    stages: tuple[Stage, ...]
    about: str = ""
    axes: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    budget: Mapping[str, Any] | None = None
    scale: Scale | None = None
    figures: tuple[int, ...] = ()
    plain: bool = True
    unseen: tuple[str, ...] | None = None


def load_recipe(path: Path, scale: str | None = None) -> Recipe:
    """Read a recipe; configs are found relative to its file.

    Args:
        path: a YAML file, or the name of one in configs/recipe/.
        scale: as `load_scale` takes it; None: the one that the recipe names.

    Raises:
        ValueError: no such file, an unknown key, a missing config, or a stage that starts from no earlier one.
    """
    path = named_file(path, "recipe")
    raw = read_yaml(path)
    if not isinstance(raw, Mapping) or not {"stages"} <= raw.keys() <= KEYS:
        raise ValueError(f"{path}: a recipe has the key `stages` and, optionally, {', '.join(sorted(KEYS - {'stages'}))}.")
    for key, value in raw.items():
        _shaped(path, f"`{key}`", key, value)
    found = _scale(path, raw, scale)
    stages: dict[str, Stage] = {}
    for name, entry in raw["stages"].items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                f"{path}: a stage cannot be called {name!r}: its name is that of a folder; use letters, digits and - _ ."
            )
        stages[name] = _stage(path, name, entry, found, earlier=set(stages))
    axes = {name: _axis(path, name, values, found, stages) for name, values in raw.get("arms", {}).items()}
    return Recipe(
        name=path.stem, stages=tuple(stages.values()), about=raw.get("about", ""), axes=axes,
        seeds=tuple(raw.get("seeds", (0,))), budget=raw.get("budget"), scale=found, figures=tuple(raw.get("figures", ())),
        plain="arms" not in raw, unseen=tuple(raw["unseen"]) if "unseen" in raw else None,
    )  # fmt: skip


def _shaped(path: Path, where: str, key: str, value: Any) -> Any:
    """Return a value, refusing one whose form is not that of its key."""
    kind, example = SHAPES[key]
    numbers = key in ("seeds", "figures")
    if not isinstance(value, kind) or (key in NEVER_EMPTY and not value) or (numbers and not all(type(n) is int for n in value)):
        raise ValueError(f"{path}: {where} is written as `{key}: {example}`; got {value!r}.")
    return value


def _scale(path: Path, raw: Mapping[str, Any], wanted: str | None) -> Scale | None:
    """The scale asked for, else the recipe's own."""
    if "scale" not in raw:
        if wanted is not None:
            raise ValueError(f"{path}: its stages name their configs, so --scale {wanted} has no effect; leave it out.")
        return None
    return load_scale(wanted or raw["scale"], path.parent)


def _stage(path: Path, name: str, entry: Any, scale: Scale | None, earlier: set[str]) -> Stage:
    if not isinstance(entry, Mapping) or not entry.keys() <= STAGE_KEYS or ("config" in entry) == ("kind" in entry):
        raise ValueError(
            f"{path}: stage {name!r} has either `config` or `kind` and, optionally, init_from, use, set; got {entry!r}."
        )
    source = entry.get("init_from")
    if source is not None and source not in earlier:
        raise ValueError(f"{path}: stage {name!r} starts from {source!r}, which is no earlier stage ({sorted(earlier)}).")
    if "kind" in entry:
        if scale is None:
            raise ValueError(f"{path}: stage {name!r} is of kind {entry['kind']!r}, but the recipe names no `scale`.")
        configs, settings = scale.kind(entry["kind"])
    else:
        named = [entry["config"]] if isinstance(entry["config"], str) else entry["config"]
        configs, settings = config_files(path, f"stage {name!r}", named), {}
    return Stage(name, configs, source, layered(settings, _settings(path, entry, scale)))


def _settings(path: Path, entry: Mapping[str, Any], scale: Scale | None) -> dict[str, Any]:
    """Settings of an entry: `use`, overridden by `set`."""
    used = entry.get("use", ())
    names = (used,) if isinstance(used, str) else used
    if names and scale is None:
        raise ValueError(f"{path}: `use: {names[0]}` needs a `scale` that defines it.")
    own = dict(_shaped(path, "`set`", "set", entry.get("set", {})))
    return layered(*(scale.setting(name) for name in names), own) if scale is not None else own


def _axis(path: Path, axis: str, values: Any, scale: Scale | None, stages: Mapping[str, Stage]) -> dict[str, Change]:
    """Values of an axis; a string is the name of an axis of the scale."""
    if isinstance(values, str):
        if scale is None:
            raise ValueError(f"{path}: axis {axis!r} is {values!r} of a scale, but the recipe names no `scale`.")
        values = scale.axis(values)
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{path}: axis {axis!r} maps names of values to their changes; got {values!r}.")
    return {str(name): _change(path, f"{axis}={name}", entry or {}, scale, stages) for name, entry in values.items()}


def _change(path: Path, where: str, entry: Mapping[str, Any], scale: Scale | None, stages: Mapping[str, Stage]) -> Change:
    known = {*stages, "skip", "budget"}
    if not isinstance(entry, Mapping) or not entry.keys() <= known:
        raise ValueError(f"{path}: {where} has keys among {sorted(known)}; got {entry!r}.")
    skip, settings = _shaped(path, where, "skip", entry.get("skip", [])), {}
    if unknown := set(skip) - stages.keys():
        raise ValueError(f"{path}: {where} skips {sorted(unknown)}, which are no stages ({sorted(stages)}).")
    for stage in stages.keys() & entry.keys():
        if not isinstance(entry[stage], Mapping) or not entry[stage].keys() <= CHANGE_KEYS:
            raise ValueError(f"{path}: {where}, stage {stage!r}: expected `use` or `set`, got {entry[stage]!r}.")
        settings[stage] = _settings(path, entry[stage], scale)
    return Change(settings, frozenset(skip), _shaped(path, where, "budget", entry.get("budget", {})))


def without(stages: Sequence[Stage], skipped: frozenset[str]) -> list[Stage]:
    """Remove stages; a stage that starts from a removed one starts from its parent."""
    sources = {stage.name: stage.init_from for stage in stages}
    kept = []
    for stage in stages:
        source = stage.init_from
        while source in skipped:
            source = sources[source]
        if stage.name not in skipped:
            kept.append(replace(stage, init_from=source))
    return kept
