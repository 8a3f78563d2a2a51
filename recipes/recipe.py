"""A recipe: stages that start from one another's weights, read from YAML and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Stage:
    """One LightningCLI config.

    name:      also the stage's folder.
    config:    a file under `configs/experiment/`.
    init_from: name of the earlier stage whose weights it starts from; None: what the config says.
    """

    name: str
    config: Path
    init_from: str | None = None


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
    if not isinstance(raw, Mapping) or not isinstance(raw.get("stages"), Mapping) or not raw.keys() <= {"about", "stages"}:
        raise ValueError(f"{path}: a recipe has the keys `stages` (name -> config, init_from) and `about`.")
    stages: dict[str, Stage] = {}
    for name, entry in raw["stages"].items():
        stages[name] = _stage(path, name, entry, earlier=set(stages))
    return Recipe(tuple(stages.values()), raw.get("about", ""))


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
