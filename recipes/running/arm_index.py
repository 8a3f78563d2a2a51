"""The index of an experiment, `OUT/RECIPE.SCALE.json`: its arms, the folders of their stages, how they ended."""

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callbacks.files import read_json, write_json
from recipes.planning.plan import Plan, Planned
from recipes.planning.recipe import Recipe
from recipes.running.stage_folders import StageFolders


def write_index(plan: Plan, out: Path, failed: set[str]) -> Path:
    """Write the index, and return its path.

    Arms of an earlier run that this one leaves out (`--only`, `--seed`) stay, unless the recipe no longer has their values or
    means something else by them. A lock file keeps processes that run different arms from losing each other's entries.
    """
    recipe = plan.recipe
    path = out / (".".join([recipe.name, *([recipe.scale.name] if recipe.scale else []), "json"]))
    out.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        earlier = read_json(path)["arms"] if path.is_file() else []
        meant = {tuple(arm.values.values()): arm.lineage() for arm in plan.arms}
        planned = {arm.name for arm in plan.arms}
        named = {(frozenset(arm.values.items()), arm.seed): arm.name for arm in plan.arms}  # axes may have changed places
        arms = {
            arm["name"]: arm for arm in earlier if _known(recipe, arm, meant)
            and named.get((frozenset(arm["values"].items()), arm["seed"]), arm["name"]) == arm["name"]
        }  # fmt: skip
        if gone := [arm["name"] for arm in earlier if arm["name"] not in arms.keys() | planned]:
            print(f"{path}: left out, as the recipe has changed since they ran: {', '.join(gone)}", flush=True)
        folders = StageFolders(out)
        for arm in plan.arms:
            stages = [
                {
                    "name": stage.name, "kind": stage.kind, "folder": str(folders.folder(stage).relative_to(out)),
                    "state": _state(folders, stage, failed),
                }
                for stage in arm.stages
            ]  # fmt: skip
            lineage = meant[tuple(arm.values.values())]
            arms[arm.name] = {
                "name": arm.name, "values": dict(arm.values), "seed": arm.seed, "lineage": lineage, "stages": stages
            }  # fmt: skip
        index = {
            "recipe": recipe.name, "scale": recipe.scale and recipe.scale.name, "about": recipe.about,
            "about_scale": recipe.scale.about if recipe.scale else "", "figures": list(recipe.figures),
            "graders": list(recipe.scale.graders if recipe.scale else ()),
            "axes": {axis: list(values) for axis, values in recipe.axes.items()}, "arms": list(arms.values()),
        }  # fmt: skip
        write_json(path, index)
    return path


def _known(recipe: Recipe, arm: Mapping[str, Any], meant: Mapping[tuple[str, ...], str]) -> bool:
    """Whether an earlier arm is one of the recipe's today, as far as this run has planned it (`meant`: values -> lineage)."""
    values = arm["values"]
    if values.keys() != recipe.axes.keys() or any(value not in recipe.axes[axis] for axis, value in values.items()):
        return False
    return is_meant(arm, meant)


def is_meant(arm: Mapping[str, Any], meant: Mapping[tuple[str, ...], str]) -> bool:
    """Whether an arm of an index is what its values mean today; one whose values are not in `meant` may be."""
    today = meant.get(tuple(arm["values"].values()))
    return today is None or arm.get("lineage", today) == today


def _state(folders: StageFolders, stage: Planned, failed: set[str]) -> str:
    """One of "complete", "failed", "waiting" (for a stage that failed) and "open"."""
    if folders.complete(stage):
        return "complete"
    if stage.digest in failed:
        return "failed"
    return "waiting" if any(earlier.digest in failed for earlier in stage.chain()) else "open"
