"""EdgeOfCompetence against fixed operations that are too easy and too hard, at the same compute.

python -m benchmarks.curriculum --start runs/quickstart/seed0/midtrain/huggingface --out runs/curriculum --seeds 0,1,2
Draws verified pass@k of held-out problems over updates and over FLOPs, and prints a table. Started again, it goes on where it
stopped. Further arguments go to every arm's `fit`, such as --trainer.max_steps 20.
"""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import mean, stdev

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from recipes.cli import run_stage
from recipes.running.curves import series
from recipes.text_tables import align, read_json

CONFIGS = Path(__file__).parent.parent / "configs"
ARMS = {"edge": "-", "easy": "--", "hard": ":"}  # configs/curriculum/ARM.yaml -> line
AXES = {"step": "updates", "train/compute_flops": "FLOPs, rollouts and probes included"}
METRICS = ("pass@1", "pass@8")


def parse_args(argv: list[str] | None) -> tuple[Namespace, list[str]]:
    """Read the command line; what is not known is for `fit`."""
    parser = ArgumentParser(prog="python -m benchmarks.curriculum", description=__doc__)
    parser.add_argument("--start", required=True, help="Hugging Face folder or checkpoint that every arm starts from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--seeds", default="0,1,2", help="of data and sampling (default: %(default)s)")
    parser.add_argument("--band", default="edge", help="of held-out problems that is drawn (default: %(default)s)")
    parser.add_argument("--experiment", type=Path, default=CONFIGS / "experiment/quickstart_grpo.yaml", help="what arms alter")
    return parser.parse_known_args(argv)


def train(args: Namespace, extra: list[str], arm: str, seed: str) -> None:
    """Train an arm, unless that is done; before, measure what it starts from."""
    folder = args.out / arm / f"seed{seed}"
    configs = [args.experiment, CONFIGS / "curriculum/base.yaml", CONFIGS / f"curriculum/{arm}.yaml"]
    settings = [word for config in configs for word in ("--config", str(config))]
    settings += ["--seed_everything", seed, "--data.init_args.seed", seed, "--model.init_args.init_from", args.start, *extra]
    if not (args.out / "start/validate/pass_at_k.json").is_file():
        run_stage(["validate", *settings, "--trainer.default_root_dir", str(args.out / "start")])
    if not (folder / "training.json").is_file():
        run_stage(["fit", *settings, "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"])


def curve(args: Namespace, arm: str, seed: str, metric: str, over: str) -> tuple[list[float], list[float]]:
    """Points of a run, from what all arms start from on."""
    begin = read_json(args.out / "start/validate/pass_at_k.json")[args.band]["executable"][metric]["mean"]
    xs, ys = series(args.out / arm / f"seed{seed}/metrics.csv", f"val/executable/{metric}/{args.band}", over)
    return [0.0, *(x + (over == "step") for x in xs)], [begin, *ys]  # steps are logged from 0 on


def draw(args: Namespace, seeds: list[str]) -> Path:
    """Write `curriculum.png`: a thin line for each seed, a thick one for their mean at updates that all of them reached."""
    figure, axes = plt.subplots(len(METRICS), len(AXES), figsize=(11, 8), layout="constrained")
    for row, metric in zip(axes, METRICS, strict=True):
        for axis, (over, label) in zip(row, AXES.items(), strict=True):
            for number, arm in enumerate(ARMS):
                draw_arm(axis, [curve(args, arm, seed, metric, over) for seed in seeds], arm, f"C{number}")
            axis.set(xlabel=label, ylabel=f"executable {metric}, band {args.band!r}", ylim=(-0.03, 1.03))
            axis.grid(alpha=0.3)
    axes[0][0].legend()
    path = args.out / "curriculum.png"
    part = path.with_suffix(".part.png")
    figure.savefig(part, dpi=120)
    plt.close(figure)
    os.replace(part, path)
    return path


def draw_arm(axis: Axes, curves: list[tuple[list[float], list[float]]], arm: str, colour: str) -> None:
    """One arm's seeds and their mean."""
    for xs, ys in curves:
        axis.plot(xs, ys, ARMS[arm], color=colour, alpha=0.35, linewidth=1)
    common = min(len(xs) for xs, _ in curves)
    xs, ys = ([mean(values) for values in zip(*(side[i][:common] for side in curves), strict=True)] for i in (0, 1))
    axis.plot(xs, ys, ARMS[arm], color=colour, linewidth=2.5, label=arm)


def spread(values: list[float]) -> str:
    """The mean over seeds and its standard error."""
    error = f" ±{stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{error}"


def table(args: Namespace, seeds: list[str]) -> str:
    """Arm x (updates, FLOPs, what it ends with)."""
    rows = [["arm", "updates", "FLOPs", *(f"{metric} first" for metric in METRICS), *(f"{metric} last" for metric in METRICS)]]
    for arm in ARMS:
        folders = [args.out / arm / f"seed{seed}" for seed in seeds]
        updates = mean(read_json(folder / "training.json")["steps"] for folder in folders)
        flops = mean(read_json(folder / "compute.json")["flops"] for folder in folders)
        ends = {m: [curve(args, arm, seed, m, "step")[1] for seed in seeds] for m in METRICS}
        first, last = ([spread([ys[i] for ys in ends[metric]]) for metric in METRICS] for i in (0, -1))
        rows.append([arm, f"{updates:.0f}", f"{flops:.2e}", *first, *last])
    return align(rows)


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, then draw and print."""
    args, extra = parse_args(argv)
    seeds = args.seeds.split(",")
    for seed in seeds:
        for arm in ARMS:
            train(args, extra, arm, seed)
    print(f"\nexecutable, band {args.band!r}, seeds {args.seeds}\n{table(args, seeds)}\n{draw(args, seeds)}")


if __name__ == "__main__":
    main()
