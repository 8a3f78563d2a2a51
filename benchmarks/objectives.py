"""What each objective of configs/objective does to one base: `python -m benchmarks.objectives BASE [--seeds 0,1,2,3,4,5]`.

Trains and tests the base with every objective and seed, all else as in kind `grpo` of a scale on problems of its edge, with equal
rollouts. The numbers of a run go to docs/reinforcement/objectives/NAME.seedN.json as soon as it ends, and from all of these files
to the table in docs/reinforcement.md; what is there is not run again, unless its config has changed.
"""

import argparse
import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from callbacks.files import read_json, write_json, write_text
from lightning_modules.models.folder import read_folder
from lightning_modules.models.sharding import weights_digest
from recipes.planning.resolve import digest, flags, resolve
from recipes.planning.scale import Scale, load_scale
from recipes.report.chart import save
from recipes.report.sourced_numbers import t_quantile
from recipes.running import preloaded
from recipes.running.stage_folders import finish

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs/objective"
PAGE, RESULTS = ROOT / "docs/reinforcement.md", ROOT / "docs/reinforcement/objectives"
MONITORS = ROOT / "configs/callbacks/monitors.yaml"
BAND, GRADER, PARTS = "edge", "executable", 4
NEEDS_TEACHER, TEACHER = {"distillation"}, "model.init_args.kl.reference"
TWO_UPDATES = {"gspo", "cispo", "sapo", "dppo", "clip_cov", "kl_cov", "dapo"}  # a rollout; compared with `clip_two`
ROW = re.compile(r"\| \[`(\w+)`\]\(")


def compared_with(name: str) -> str | None:
    """The objective that differs from `name` in nothing else; None: it is a baseline."""
    return None if name in ("base", "grpo") else "clip_two" if name in TWO_UPDATES else "grpo"


def command(name: str, base: Path, seed: int, scale: Scale, settings: dict[str, Any]) -> tuple[list[str], str]:
    """Arguments of `fit` and `test`, and the digest of their config but for the weights: equal rollouts, however many updates."""
    configs, given = scale.kind("grpo")
    files = [*configs, MONITORS, *([] if name == "base" else [CONFIGS / f"{name}.yaml"])]
    chosen = {**given, **scale.setting("rl_edge"), "model.init_args.init_from": str(base), "seed_everything": seed}
    chosen |= {"data.init_args.seed": seed, "trainer.enable_progress_bar": False} | settings
    config = resolve(files, chosen)
    update = config["model"]["init_args"]["update"]
    steps = config["trainer"]["max_steps"] * update["minibatches"] * update["epochs"]
    chosen |= {"trainer.max_steps": steps, "trainer.val_check_interval": steps, "trainer.limit_val_batches": 0}
    config["trainer"]["max_steps"] = steps
    config["model"]["init_args"]["kl"]["reference"] = None  # a teacher is told by its own digest
    return [word for file in files for word in ("--config", str(file))] + flags(chosen), digest(config, "base")


def run(log: Path, words: list[str]) -> bool:
    """Run a command of the front door in a process of its own, which starts at once where it can."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        if preloaded.available():
            return preloaded.run(words, log, file.fileno(), None)
        started = [sys.executable, str(preloaded.FRONT_DOOR), *words]
        return subprocess.run(started, check=False, stdout=file, stderr=file).returncode == 0


def in_quarters(folder: Path, column: str) -> list[float] | None:
    """Means of a logged number over the four quarters of training; None: it is not logged."""
    with (folder / "metrics.csv").open() as file:
        values = [float(row[column]) for row in csv.DictReader(file) if row.get(column)]
    edges = [len(values) * part // PARTS for part in range(PARTS + 1)]
    return [round(fmean(values[a:b]), 5) for a, b in pairwise(edges)] if len(values) >= PARTS else None


def measured(name: str, folder: Path) -> dict[str, Any]:
    """The numbers of a run, from its files."""
    bands, found = read_json(folder / "test/pass_at_k.json"), {}
    found["bands"] = {band: {k: round(v["mean"], 5) for k, v in by[GRADER].items()} for band, by in bands.items() if GRADER in by}
    if name != "base":
        for column in ("zero_variance", "entropy_nats", "reward", "truncated", "response_tokens"):
            found[column] = in_quarters(folder, f"train/{column}")
        found["seconds"] = read_json(folder / "training.json")["seconds"]
    return found


def commit() -> str:
    """Of the tree."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def study(args: argparse.Namespace) -> int:
    """Run what is missing; returns the number of runs that failed."""
    scale, failed, made = load_scale(args.scale, CONFIGS), 0, {"base": _digest(args.base), "commit": commit()}
    for name, seed in [("base", 0), *((name, seed) for seed in args.seeds for name in args.objectives)]:
        teacher = args.teacher if name in NEEDS_TEACHER else None
        given = args.settings | ({TEACHER: str(teacher)} if teacher else {})
        words, config = command(name, args.base, seed, scale, given)
        found = {"objective": name, "seed": seed, "config": config} | ({"teacher": _digest(teacher)} if teacher else {})
        kept, folder = args.results / f"{name}.seed{seed}.json", args.runs / f"{name}-seed{seed}-{config}"
        if kept.is_file() and found.items() <= read_json(kept).items():
            continue
        print(f"{name}, seed {seed}", flush=True)
        start = partial(run, folder / "log.txt")
        if name == "base":
            done = start(["test", *words, "--trainer.default_root_dir", str(folder)])
        else:
            done = finish(folder, words, [*words, "--ckpt_path", str(folder / "checkpoints/last.ckpt")], start)
        if done:
            write_json(kept, found | made | measured(name, folder))
            show(args.results, args.page)
        else:
            failed += 1
            print(f"FAILED: {name}, seed {seed}: its last words are in {folder / 'log.txt'}", file=sys.stderr)
    return failed


def show(folder: Path, page: Path) -> None:
    """Write the table of a page, and draw `objectives.png` beside the results."""
    results = read_results(folder)
    write_text(page, filled(page.read_text(encoding="utf-8"), results))
    draw(results, folder.parent / "objectives.png")


def _digest(folder: Path) -> str:
    return weights_digest(read_folder(folder)[0])


def read_results(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Objective -> seed -> numbers.

    Raises:
        ValueError: they start from different bases.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.seed*.json")):
        numbers = read_json(path)
        found.setdefault(numbers["objective"], {})[numbers["seed"]] = numbers
    if len({one["base"] for seeds in found.values() for one in seeds.values()}) > 1:
        raise ValueError(f"{folder} holds runs of different bases; keep those of one.")
    return found


def columns(numbers: dict[str, Any]) -> list[float | None]:
    """pass@1 and the highest pass@k at the edge; groups without variance and entropy in the last quarter."""
    band = numbers["bands"].get(BAND) or next(iter(numbers["bands"].values()))
    most = max(band, key=lambda key: int(key.partition("@")[2]))
    late = [(numbers.get(name) or [None])[-1] for name in ("zero_variance", "entropy_nats")]
    return [band["pass@1"], band[most], *late]


def cells(name: str, results: dict[str, dict[int, dict[str, Any]]]) -> list[str] | None:
    """Mean over seeds; then, of the difference from the baseline seed by seed, the mean with its 95% interval (Student's t)."""
    mine, other = results.get(name), results.get(compared_with(name) or "")
    if not mine:
        return None
    texts = []
    for values in zip(*(columns(mine[seed]) for seed in sorted(mine)), strict=True):
        texts.append("-" if None in values else f"{fmean(values):.3f}")
    shared = sorted(mine.keys() & other.keys()) if other else []
    for column in range(len(texts)) if len(shared) > 1 else ():
        pairs = [(columns(mine[seed])[column], columns(other[seed])[column]) for seed in shared]
        if not any(None in pair for pair in pairs):
            gaps = [a - b for a, b in pairs]
            texts[column] += f" ({fmean(gaps):+.3f} ±{_half(gaps):.3f})"
    return texts


def _half(values: Sequence[float]) -> float:
    """Half of the 95% interval of a mean (Student's t)."""
    return t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def filled(page: str, results: dict[str, dict[int, dict[str, Any]]]) -> str:
    """The page with the last four cells of each objective's row as measured; other rows, and text, are as they were."""
    lines = page.split("\n")
    for number, line in enumerate(lines):
        match = ROW.match(line)
        new = cells(match[1], results) if match else None
        if new is not None:
            kept = line.rstrip().removesuffix("|").split(" | ")[: -len(new)]
            lines[number] = " | ".join([*kept, *new]) + " |"
    return "\n".join(lines)


def draw(results: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Draw pass@1 and pass@16 at the edge, mean over seeds with 95% intervals (Student's t), of every objective, as a PNG."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axis = figure.subplots()
    for at, (name, seeds) in enumerate(sorted(results.items(), key=lambda item: fmean(columns(n)[1] for n in item[1].values()))):
        both = [columns(numbers)[:2] for numbers in seeds.values()]
        (x, y), n = (fmean(values) for values in zip(*both, strict=True)), len(both)
        halves = [_half(values) if n > 1 else 0.0 for values in zip(*both, strict=True)]
        colour = "#D55E00" if name == "base" else "#009E73" if name in TWO_UPDATES | {"clip_two"} else "#0072B2"
        axis.errorbar(x, y, xerr=halves[0], yerr=halves[1], fmt="none", color=colour, elinewidth=0.6, alpha=0.4)
        axis.plot(x, y, "o", color=colour, markersize=5)
        side = {"xytext": (-6, -9), "ha": "right"} if at % 2 else {"xytext": (6, 4), "ha": "left"}  # neighbours differ
        axis.annotate(name, (x, y), textcoords="offset points", fontsize=9, **side)
    axis.set_xlabel("pass@1 at the edge")
    axis.set_ylabel("pass@16 at the edge")
    axis.set_title("orange: the base; blue: one update a rollout; green: two")
    axis.grid(alpha=0.3)
    save(figure, path)


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objectives", description=__doc__)
    parser.add_argument("base", type=Path, help="Hugging Face folder of the weights that all objectives start from")
    everything = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    parser.add_argument("--objectives", help="names under configs/objective, e.g. grpo,cispo (default: all that can)")
    parser.add_argument("--teacher", type=Path, help="Hugging Face folder of the model that `distillation` follows")
    parser.add_argument("--seeds", default="0,1,2,3,4,5", help="of rollouts (default: %(default)s)")
    parser.add_argument("--scale", default="tiny", help="under configs/scale (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/objectives"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the numbers (default: docs)")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose table is filled (default: docs/reinforcement.md)")
    parser.add_argument("--settings", type=json.loads, default={}, help='JSON of dotted keys, e.g. {"trainer.max_steps": 2}')
    args = parser.parse_args(argv)
    possible = [name for name in everything if args.teacher or name not in NEEDS_TEACHER]
    args.objectives = args.objectives.split(",") if args.objectives else possible
    args.seeds = [int(seed) for seed in args.seeds.split(",")]
    for name in args.objectives:
        if name not in possible:
            reason = "needs --teacher" if name in everything else f"is no objective; there are {','.join(everything)}"
            parser.error(f"{name!r} {reason}")
    return args


if __name__ == "__main__":
    sys.exit(int(bool(study(parsed(sys.argv[1:])))))
