"""The index of an experiment, `OUT/RECIPE.SCALE.json`: which arms there are, where their stages lie, how they ended."""

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callbacks.files import write_text
from recipes.planning.plan import Plan, Planned
from recipes.planning.recipe import Recipe
from recipes.running.stage_folders import Workplace


def index_path(out: Path, recipe: Recipe) -> Path:
    """Where the index of a recipe stands."""
    return out / (".".join([recipe.name, *([recipe.scale.name] if recipe.scale else []), "json"]))


def state_of(place: Workplace, stage: Planned, failed: set[str]) -> str:
    """One of "complete", "failed", "waiting" (for a stage that failed) and "open"."""
    if place.complete(stage):
        return "complete"
    if stage.digest in failed:
        return "failed"
    return "waiting" if any(earlier.digest in failed for earlier in stage.chain()) else "open"


def write_index(plan: Plan, out: Path, failed: set[str]) -> Path:
    """Write the index; arms that an earlier run planned and this one leaves out (`--only`, `--seed`) are kept.

    Not so those of values that the recipe no longer has.

    Another process may be at it for arms of its own: a lock file keeps the two from losing what the other wrote.
    """
    path = index_path(out, plan.recipe)
    out.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = json.dumps(_index(plan, Workplace(out), failed, path), indent=1)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    return path


def _known(recipe: Recipe, values: Mapping[str, str]) -> bool:
    """Whether a recipe has these values of its axes."""
    return values.keys() == recipe.axes.keys() and all(value in recipe.axes[axis] for axis, value in values.items())


def _index(plan: Plan, place: Workplace, failed: set[str], path: Path) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))["arms"]
        arms = {arm["name"]: arm for arm in earlier if _known(plan.recipe, arm["values"])}
    for arm in plan.arms:
        stages = [
            {
                "name": stage.name, "kind": stage.kind, "folder": str(place.folder(stage).relative_to(place.out)),
                "state": state_of(place, stage, failed),
            }
            for stage in arm.stages
        ]  # fmt: skip
        arms[arm.name] = {"name": arm.name, "values": dict(arm.values), "seed": arm.seed, "stages": stages}
    recipe = plan.recipe
    return {
        "recipe": recipe.name, "scale": recipe.scale and recipe.scale.name, "about": recipe.about,
        "about_scale": recipe.scale.about if recipe.scale else "", "figures": list(recipe.figures),
        "axes": {axis: list(values) for axis, values in recipe.axes.items()}, "arms": list(arms.values()),
    }  # fmt: skip
