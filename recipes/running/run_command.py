"""`python main.py run RECIPE.yaml ... --out DIR`: run the stages of recipes, test each, print the results.

Started again, it resumes where it stopped. A recipe without arms leaves each stage in `OUT/STAGE`; one with arms keeps stages in
`OUT/stages`, where arms, seeds and recipes share equal ones, and an index in `OUT/RECIPE.SCALE.json`. Exit status 1: some arms
failed; the others ran.
"""

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callbacks.files import read_json
from datamodules.yaml_text import read_yaml
from recipes.planning.estimate import describe
from recipes.planning.plan import Plan, in_order, make_plan, only
from recipes.planning.recipe import Recipe, load_recipe
from recipes.planning.seen import check_seen
from recipes.report.report_command import draw_curves, report
from recipes.running.arm_index import write_index
from recipes.running.jobs import CLUSTERS, submit
from recipes.running.preloaded import available
from recipes.running.result_tables import arm_table, compute_table, result_table
from recipes.running.scheduler import run_stages
from recipes.running.stage_folders import HARDWARE, StageFolders
from recipes.running.story import tell


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _parser().parse_args(argv)
    recipes = [load_recipe(path, args.scale) for path in args.recipe]
    _check(recipes, args)
    args.out = args.out or Path("runs") / recipes[0].name
    plans = [make_plan(recipe, args.seed) for recipe in recipes]
    for plan in plans:
        check_seen(plan)
    plans = only(plans, args.only.split(",")) if args.only else plans
    plain = recipes[0].plain
    if args.dry_run:
        print(describe(plans, StageFolders(args.out, plain).complete))
        return 0
    if plain:
        return _run_plain(plans[0], args.out, args.hardware)
    return _run_arms(plans, args.out, args)


def _check(recipes: Sequence[Recipe], args: Namespace) -> None:
    """Refuse what would fail later or be ignored."""
    names = [recipe.name for recipe in recipes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"there is more than one recipe named {twice}; their results would share an index, so give each name once."
        )
    for recipe in recipes:
        if recipe.plain and (len(recipes) > 1 or args.launcher != "here" or args.at_once > 1):
            raise ValueError(f"{recipe.name} has no arms; run it by itself, without --launcher and --at-once.")
        if recipe.plain and len(args.seed or recipe.seeds) != 1:
            raise ValueError(f"{recipe.name} has no arms and runs with one seed; give --seed one number, or the recipe `arms`.")
    if args.out is None and len(recipes) > 1:
        raise ValueError("several recipes share one folder; name it by --out DIR.")
    if args.at_once < 1:
        raise ValueError(f"--at-once {args.at_once}: how many stages run side by side; give 1 or more.")
    if args.preload and (args.launcher != "here" or recipes[0].plain or not available()):
        raise ValueError("--preload is for stages with processes of their own on this machine, under Linux; leave it out.")
    if args.at_once > 1 and args.launcher != "here":
        raise ValueError(
            f"--at-once is for stages of this machine; --launcher {args.launcher} starts all that it can. Leave one out."
        )
    if args.job and args.launcher == "here":
        raise ValueError(
            f"--job {next(iter(args.job))} is for jobs; say which kind by --launcher {' | '.join(CLUSTERS)}, or leave it out."
        )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="interplay run", description=__doc__)
    parser.add_argument(
        "recipe", type=Path, nargs="+", help="files, or names of those in configs/recipe/; stages that several share run once"
    )
    parser.add_argument("--out", type=Path, help="folder of the experiment (default, for one recipe: runs/RECIPE)")
    parser.add_argument(
        "--seed", type=_seeds, help="of weights, data order and sampling, e.g. 3 or 0,1,2; held-out problems stay the same "
        "(default: the recipe's seeds)",
    )  # fmt: skip
    parser.add_argument("--scale", help="a name under configs/scale/, or a path (default: the recipe's)")
    parser.add_argument("--only", help="arms, by name, e.g. 'edge-*,base-seed0'")
    parser.add_argument("--dry-run", action="store_true", help="print the graph of stages, steps, tokens and estimated cost")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="stages that run side by side (default: %(default)s)")
    parser.add_argument(
        "--preload", action="store_true", help="start processes of stages as forks of one that has imported what they need: "
        "for many short stages, under Linux",
    )  # fmt: skip
    parser.add_argument("--launcher", choices=("here", *CLUSTERS), default="here", help="where stages run")
    parser.add_argument(
        "--job", action=_Settings, default={}, metavar="KEY=VALUE",
        help="of jobs, e.g. timeout_min=600, gpus_per_node=1, slurm_partition=gpu (submitit's names)",
    )  # fmt: skip
    add_hardware(parser)
    return parser


def add_hardware(parser: ArgumentParser) -> None:
    """Add `--hardware`, which may be given several times; its value is a dict."""
    parser.add_argument(
        "--hardware", action=_Settings, choices=HARDWARE, default={}, metavar="KEY=VALUE",
        help="of this machine, above the recipe's settings and no part of what a stage is, e.g. trainer.accelerator=gpu; of "
        + ", ".join(HARDWARE),
    )  # fmt: skip


class _Settings(Action):
    """Gathers KEY=VALUE in a dict; `choices`, if given, are the keys."""

    def __init__(self, *args: Any, choices: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keys = choices  # as `choices` of argparse they would be compared with KEY=VALUE

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None) -> None:
        key, equals, value = values.partition("=")
        if not equals or (self.keys and key not in self.keys):
            of = f" with a key of {', '.join(self.keys)}" if self.keys else ""
            parser.error(f"argument {option_string} {values!r}: give KEY=VALUE{of}.")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), key: read_yaml(value)})


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in text.split(","))


def _run_plain(plan: Plan, out: Path, hardware: Mapping[str, Any]) -> int:
    """Run the stages of a recipe without arms in this process, and print their tables."""
    (arm,) = plan.arms
    folders = StageFolders(out, plain=True, hardware=hardware)
    for number, stage in enumerate(arm.stages, start=1):
        print(f"\n=== {number}/{len(arm.stages)} {stage.name} ===", flush=True)
        if not folders.finish(stage):
            raise RuntimeError(f"{stage.name}: the scores in {folders.folder(stage)} are not of the weights that training left.")
        results = {of.name: read_json(folders.folder(of) / "test/pass_at_k.json") for of in (stage.parent, stage) if of}
        tell(stage.name, results[stage.name], (stage.parent.name, results[stage.parent.name]) if stage.parent else None)
    names = [stage.name for stage in arm.stages]
    print(f"\n{plan.recipe.about}Seed {arm.seed}.\n\n{result_table(out, names)}\n")
    print(f"{compute_table(out, names)}\n")
    print(f"Report:      {report(out, out)}")
    print(f"Curves:      {draw_curves(out, names)}")
    print(f"Samples:     {out}/STAGE/test/samples/test.jsonl")
    print(f"TensorBoard: tensorboard --logdir {out}")
    return 0


def _run_arms(plans: Sequence[Plan], out: Path, args: Namespace) -> int:
    """Run all stages of all recipes, equal ones once, and print a table for each recipe."""
    for plan in plans:
        write_index(plan, out, set())
    folders, stages = StageFolders(out), {stage.digest: stage for stage, _ in in_order(plans)}
    if args.launcher == "here":
        failed = run_stages(plans, out, args.at_once, args.hardware, preload=args.preload)
    else:
        jobs = submit(list(stages.values()), out, args.launcher, args.job, args.hardware)
        if args.launcher == "slurm":
            print(f"When they have ended: interplay report {out}")
            return 0
        failed = {name for name in jobs if not folders.complete(stages[name])}
        for name in failed:
            print(f"FAILED {stages[name].label}:\n{folders.why(stages[name])}")
    for plan in plans:
        print(f"\n{plan.recipe.name}: {plan.recipe.about}\n{arm_table(write_index(plan, out, failed))}")
    print(f"\nReport: interplay report {out}")
    return int(bool(failed) or not all(folders.complete(stage) for stage in stages.values()))
