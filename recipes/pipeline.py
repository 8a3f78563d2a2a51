"""`python main.py run RECIPE.yaml --out DIR`: run the stages of a recipe, evaluate each, print what was found.

Started again, it goes on where it stopped. A recipe without arms leaves each stage in `OUT/STAGE`; one with arms keeps stages in
`OUT/stages`, where arms, seeds and recipes share those that are the same, and an index in `OUT/RECIPE.SCALE.json`. Exit status 1:
arms failed; the others were run.
"""

from argparse import ArgumentParser
from pathlib import Path

import yaml

from recipes.arm_table import arm_table
from recipes.cli import run_stage
from recipes.curves import draw_curves
from recipes.dry_run import describe
from recipes.index import write_index
from recipes.jobs import CLUSTERS, submit
from recipes.ledger import compute_table
from recipes.plan import Plan, Planned, in_order, make_plan
from recipes.recipe import load_recipe
from recipes.resolve import flags
from recipes.table import result_table
from recipes.workplace import Workplace


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _parser().parse_args(argv)
    recipe = load_recipe(args.recipe, args.scale)
    if recipe.plain and args.seed is not None and len(args.seed) != 1:
        raise ValueError("a recipe without arms runs with one seed; give --seed one number, or the recipe `arms`.")
    plan = make_plan(recipe, args.seed)
    plan = plan.only(args.only.split(",")) if args.only else plan
    if args.dry_run:
        print(describe(plan, Workplace(args.out)))
        return 0
    if recipe.plain:
        return _run_plain(plan, args.out)
    return _run_arms(plan, args.out, args.launcher, dict(setting.split("=", 1) for setting in args.job))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python main.py run", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a file under configs/recipe/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    parser.add_argument(
        "--seed", type=_seeds, help="of weights, data order and sampling, e.g. 3 or 0,1,2; held-out problems stay the same "
        "(default: the recipe's seeds)",
    )  # fmt: skip
    parser.add_argument("--scale", help="a file under configs/scale/ (default: the recipe's)")
    parser.add_argument("--only", help="arms, by name, e.g. 'edge-*,base-seed0'")
    parser.add_argument("--dry-run", action="store_true", help="print the graph of stages, steps, tokens and estimated cost")
    parser.add_argument("--launcher", choices=("here", *CLUSTERS), default="here", help="where stages run")
    parser.add_argument(
        "--job", action="append", default=[], metavar="KEY=VALUE",
        help="of jobs, e.g. timeout_min=600, gpus_per_node=1, slurm_partition=gpu (submitit's names)",
    )  # fmt: skip
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in text.split(","))


def _run_plain(plan: Plan, out: Path) -> int:
    """The stages of a recipe without arms, in folders of their own names."""
    (arm,) = plan.arms
    for number, stage in enumerate(arm.stages, start=1):
        print(f"\n=== {number}/{len(arm.stages)} {stage.name} ===", flush=True)
        run_and_evaluate(stage.name, _arguments(plan, stage, out), out)
    _print_plain(plan, out)
    return 0


def _arguments(plan: Plan, stage: Planned, out: Path) -> list[str]:
    """A stage's config files and, above them, its settings, the seed, the steps that a budget leaves, where it starts from."""
    (written,) = (found for found in plan.recipe.stages if found.name == stage.name)
    seed = plan.arms[0].seed
    settings = {**written.settings, "seed_everything": seed, "data.init_args.seed": seed}
    if plan.recipe.budget is not None:
        settings |= {f"trainer.{key}": stage.config["trainer"][key] for key in ("max_steps", "devices")}
        settings["budget.max_tokens"] = stage.config["budget"]["max_tokens"]
    if stage.parent is not None:
        settings["model.init_args.init_from"] = str(out / stage.parent.name / "huggingface")
    return [*(word for path in written.configs for word in ("--config", str(path))), *flags(settings)]


def run_and_evaluate(name: str, arguments: list[str], out: Path) -> None:
    """Train a stage in the folder of its name and test it on the held-out problems, each unless that is done already.

    Args:
        name: of the stage.
        arguments: of `fit` and `test`: configs and settings.
        out: where the stage's folder lies.
    """
    folder = out / name
    settings = [*arguments, "--trainer.default_root_dir", str(folder)]
    if not (folder / "training.json").is_file():
        run_stage(["fit", *settings, "--ckpt_path", "last"])
    if not (folder / "test" / "pass_at_k.json").is_file():
        run_stage(["test", *settings, "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")])


def _print_plain(plan: Plan, out: Path) -> None:
    """Print the table and where everything lies."""
    (arm,) = plan.arms
    names = [stage.name for stage in arm.stages]
    print(f"\n{plan.recipe.about}Seed {arm.seed}.\n\n{result_table(out, names)}\n")
    print(f"{compute_table(out, names)}\n")
    print(f"Curves:      {draw_curves(out, names)}")
    print(f"Samples:     {out}/STAGE/test/samples/test.jsonl")
    print(f"TensorBoard: tensorboard --logdir {out}")


def _run_arms(plan: Plan, out: Path, launcher: str, job: dict[str, str]) -> int:
    write_index(plan, out, set())
    if launcher == "here":
        failed = _make_all(plan, out)
    else:
        jobs = submit(plan, out, launcher, {key: yaml.safe_load(value) for key, value in job.items()})
        if launcher == "slurm":
            print("\n".join(f"submitted job {found.job_id}: {plan.stages()[name].label}" for name, found in jobs.items()))
            print(f"When they have ended: python main.py report {out}")
            return 0
        failed = {name for name in jobs if not Workplace(out).complete(plan.stages()[name])}
        for name in failed:
            print(f"FAILED {plan.stages()[name].label}:\n{Workplace(out).why(plan.stages()[name])}")
    path = write_index(plan, out, failed)
    print(f"\n{plan.recipe.about}\n{arm_table(path)}\n\nReport: python main.py report {out}")
    return int(any(not Workplace(out).complete(stage) for stage in plan.stages().values()))


def _make_all(plan: Plan, out: Path) -> set[str]:
    """Make every stage; one that fails takes with it what starts from it, and the others go on. Return those that failed."""
    place, failed = Workplace(out), set()
    stages = list(in_order(plan))
    for number, (stage, arms) in enumerate(stages, start=1):
        head = f"=== {number}/{len(stages)} {stage.label} ({stage.name} of {_few(arms)})"
        if place.complete(stage):
            print(f"{head}: complete", flush=True)
        elif any(earlier.digest in failed for earlier in stage.chain()):
            print(f"{head}: left out, since what it starts from failed", flush=True)
        else:
            print(f"{head} ===", flush=True)
            if not place.make(stage):
                failed.add(stage.digest)
                print(f"    FAILED:\n{place.why(stage)}", flush=True)
            write_index(plan, out, failed)
    return failed


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
