"""What a study measured, small enough for the tree: `python -m recipes.findings.kept_study`, which `make findings` calls.

For each planned seed and each recipe of configs/claims.yaml whose results are not there yet: run it, then copy the index
and what claims are measured from (pass@k, errors, skills, likelihood, curves of RL, seconds, FLOPs, environment) to
docs/findings/study, in the layout of the run's folder, so that a report reads one like the other. A seed that is complete
is not run again, on any machine; what is missing of one needs the weights of its base, see docs/recipes.md.
"""

import csv
import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from callbacks.files import read_json, write_text
from recipes.findings.findings_command import HERE
from recipes.findings.findings_command import main as write_findings
from recipes.findings.pilot_gate import is_open
from recipes.named_files import CONFIGS
from recipes.planning.plan import Arm, make_plan
from recipes.planning.recipe import load_recipe
from recipes.report.report_command import CLAIMS
from recipes.report.studies import read_index
from recipes.running.arm_index import is_meant
from recipes.running.run_command import add_hardware
from recipes.running.run_command import main as run_recipes
from recipes.running.stage_folders import StageFolders
from recipes.validity import is_current

DIMENSIONS = ("all", "band", "op", "context", "cell")
COARSER = {"context": "all", "cell": "op"}  # dimension -> one that says the same if it has as many names
GRADERS = ("executable", "answer")
LOGGED = ("step", "train/reward", "train/zero_variance", "train/entropy_nats")
WHOLE = ("stage.json", "training.json", "environment.json", "competence.json", "compute.json", "rejection.json")


def pruned(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What reports and claims read of an evaluation, rounded: means of pass@k by two graders (one by number of operations),
    process accuracy, likelihood, kinds of errors and skills (of all problems, and of bands that a claim reads). By operations and
    by cell the least k and the greatest are kept.

    Contexts are left out where there is one, cells (operations, context and mode) where there is one context and one mode.
    """
    grades = {
        dimension: {
            name: {
                grader: {k: {"mean": found["mean"]} for k, found in _ends(of[grader], dimension)}
                for grader in (GRADERS[:1] if dimension == "op" else GRADERS)
            }
            | ({"errors": of.get("errors", {})} if dimension in ("all", "band") else {})
            | ({"process_accuracy": {"mean": process["mean"]}} if (process := of.get("process_accuracy")) else {})
            for name, of in evaluation["grades"].get(dimension, {}).items()
            if of["problems"]
        }
        for dimension in DIMENSIONS
        if len(evaluation["grades"].get(dimension, ())) > len(evaluation["grades"].get(COARSER.get(dimension, ""), ()))
    }
    likelihood = {band: {"all": {"nll_nats": of["all"]["nll_nats"]}} for band, of in evaluation.get("likelihood", {}).items()}
    kept = {"seconds": evaluation["seconds"], "grades": grades, "likelihood": likelihood}
    kept["skills"] = {name: of for name, of in evaluation["skills"].items() if name in _bands_of_skills()}
    return {"settings": {"weights": evaluation.get("settings", {}).get("weights")}, **_rounded(kept)}


@cache
def _bands_of_skills() -> frozenset[str]:
    """Those that reports or claims read."""
    return frozenset({"all", *re.findall(r"/skills/([^/]+)/", CLAIMS.read_text(encoding="utf-8"))})


def _ends(passes: dict[str, Any], dimension: str) -> list[tuple[str, Any]]:
    """Pass@k as figures and tables read it of a dimension."""
    found = list(passes.items())
    return [*found[:1], *found[-1:]] if dimension in ("op", "cell") and len(found) > 2 else found


def _rounded(found: Any) -> Any:
    """Nested results with numbers of five decimals."""
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    return round(found, 5) if isinstance(found, float) else found


def keep(out: Path, kept: Path) -> None:
    """Copy what is complete in a study's folder; what another day kept stays, if the recipe still means the same."""
    for path in sorted(out.glob("*.json")):
        if (index := read_index(path)) is None:
            continue
        earlier = {arm["name"]: arm for arm in read_json(kept / path.name)["arms"]} if (kept / path.name).is_file() else {}
        complete = {arm["name"]: arm for arm in index["arms"] if all(stage["state"] == "complete" for stage in arm["stages"])}
        meant = {tuple(arm["values"].values()): arm["lineage"] for arm in index["arms"] if "lineage" in arm}
        earlier = {name: arm for name, arm in earlier.items() if is_meant(arm, meant)}
        for arm in complete.values():
            for stage in arm["stages"]:
                _keep_stage(out / stage["folder"], kept / stage["folder"])
        arms = earlier | complete
        whole = index | {"arms": [arms[name] for name in sorted(arms)]}
        write_text(kept / path.name, json.dumps(whole, separators=(",", ":")) + "\n")


def _keep_stage(stage: Path, kept: Path) -> None:
    found = {"test/evaluation.json": pruned(read_json(stage / "test/evaluation.json"))}
    found |= {name: read_json(stage / name) for name in WHOLE if (stage / name).is_file()}
    for name, content in found.items():
        write_text(kept / name, json.dumps(content, separators=(",", ":")) + "\n")
    if logged := _logged(stage / "metrics.csv"):
        write_text(kept / "metrics.csv", logged)


def _logged(metrics: Path) -> str:
    """The curves of RL that a report draws, a row for each rollout; nothing for other stages."""
    if not metrics.is_file():
        return ""
    with metrics.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = [name for name in LOGGED if name in (reader.fieldnames or ())]
        rows = [[_number(row[name]) for name in columns] for row in reader if row.get("train/reward")]
    return "".join(",".join(row) + "\n" for row in [columns, *rows]) if rows else ""


def _number(text: str) -> str:
    return f"{float(text):.6g}" if text else ""


@cache
def planned_arms(name: str, scale: str, seed: int) -> tuple[Arm, ...]:
    """The arms of a recipe with one seed; planning them takes a second."""
    return make_plan(load_recipe(CONFIGS / f"recipe/{name}.yaml", scale), (seed,)).arms


def is_kept(name: str, scale: str, seed: int, kept: Path, arms_wanted: Sequence[str] = ()) -> bool:
    """Whether every arm of a recipe with this seed is there, or those that are named, as today's configs define it."""
    path, folders = kept / f"{name}.{scale}.json", StageFolders(kept)
    arms = {arm["name"]: arm for arm in read_json(path)["arms"]} if path.is_file() else {}
    return all(
        arm.name in arms
        and [kept / stage["folder"] for stage in arms[arm.name]["stages"]] == [folders.folder(stage) for stage in arm.stages]
        and all(is_current(folders.folder(stage) / "test/evaluation.json") and folders.fits(stage) for stage in arm.stages)
        for arm in planned_arms(name, scale, seed)
        if not arms_wanted or arm.name in arms_wanted
    )


def primary_arms(claim: dict[str, Any], seed: int) -> list[str]:
    """The arms, by name, of which primary effects are differences; none if one is of all arms."""
    primary = [effect for effect in claim["effects"] if effect.get("primary")]
    sides = {effect[side] for effect in primary for side in ("arm", "against") if side in effect}
    return [f"{side}-seed{seed}" for side in sorted(sides)] if all("arm" in effect for effect in primary) else []


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, seed by seed; returns the number of recipes that failed."""
    parser = ArgumentParser(prog="python -m recipes.findings.kept_study", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--at-once", default="2", help="stages side by side (default: %(default)s)")
    parser.add_argument("--seeds", help="e.g. 0,1 (default: all that are planned)")
    parser.add_argument("--recipes", help="e.g. extrapolation,process_rewards (default: all)")
    parser.add_argument("--preload", action="store_true", help="as `run --preload`")
    add_hardware(parser)
    parser.add_argument("--primary", action="store_true", help="only the arms of primary effects")
    args = parser.parse_args(argv)
    claims = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    if not is_open(claims):
        raise SystemExit("no pilot of today's scale has passed the gate; run `make pilot`, and change the world until it does.")
    recipes = args.recipes.split(",") if args.recipes else list(claims["findings"])
    if unknown := [name for name in recipes if name not in claims["findings"]]:
        parser.error(f"--recipes {unknown[0]!r}: give some of {','.join(claims['findings'])}.")
    planned = {name: claims["findings"][name].get("seeds", claims["seeds"]) for name in recipes}
    every = sorted({seed for of in planned.values() for seed in of})
    seeds = [int(seed) for seed in args.seeds.split(",")] if args.seeds else every
    if unplanned := [seed for seed in seeds if seed not in every]:
        parser.error(f"--seeds {unplanned[0]}: give some of {','.join(map(str, every))}, which configs/claims.yaml plans.")
    kept, scale, failed = HERE / "study", claims["scale"], 0

    def arms_of(name: str, seed: int) -> list[str]:
        return primary_arms(claims["findings"][name], seed) if args.primary else []

    def there(name: str, seed: int) -> bool:
        return is_kept(name, scale, seed, kept, arms_of(name, seed))

    for seed in seeds:
        # missing ones first: a base whose weights are elsewhere is trained again, perhaps as another model; then all are missing
        of_seed = [name for name in recipes if seed in planned[name]]
        for name in sorted(of_seed, key=lambda name: there(name, seed)):
            if there(name, seed):
                continue
            arms = arms_of(name, seed)
            words = ["--scale", scale, "--seed", str(seed), "--out", str(args.out), "--at-once", args.at_once]
            words += ["--only", ",".join(arms)] if arms else []
            words += [word for key, value in args.hardware.items() for word in ("--hardware", f"{key}={value}")]
            words += ["--preload"] if args.preload else []
            failed += run_recipes([str(CONFIGS / f"recipe/{name}.yaml"), *words])
            keep(args.out, kept)
    write_findings([str(kept)])
    return failed


if __name__ == "__main__":
    sys.exit(main())
