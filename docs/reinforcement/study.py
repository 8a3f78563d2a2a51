"""Run the arms of a study from the mid-trained models of quickstart runs, and write its table.

python -m docs.reinforcement.study STUDY runs/quickstart/seed0 runs/quickstart/seed1 ... [--out runs/STUDY]

STUDY is a file `STUDY.yaml` beside this one (or a path): `title`, `about`, `band` (of the held-out problems), `arms` (name ->
`config` and, optionally, `settings`: further arguments of `fit`) and, optionally, `metrics` (of metrics.csv, their mean over the
last quarter) and `reading` (what was found, in words). Started again, it goes on where it stopped. It keeps STUDY/SEED.json, the
counts behind each number, and STUDY.md.
"""

import argparse
import csv
import json
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
import yaml

from datamodules.problems.mixture import parse_ops
from lightning_modules.metrics.pass_at_k import pass_at_k
from recipes.running.pipeline import run_and_evaluate
from recipes.text_tables import align

HERE = Path(__file__).parent
START = "start"
KS = (1, 8)


def run_arms(study: dict[str, Any], source: Path, out: Path) -> None:
    """Train and test every arm from the mid-trained model of one run, which names the seed."""
    seed = int(source.name.removeprefix("seed"))
    for name, arm in study["arms"].items():
        arguments = ["--config", arm["config"], "--seed_everything", str(seed), "--data.init_args.seed", str(seed)]
        arguments += [*arm.get("settings", ()), "--model.init_args.init_from", str(source / "midtrain/huggingface")]
        print(f"\n=== seed {seed}: {name} ===", flush=True)
        run_and_evaluate(name, arguments, out)


def counts(run: Path, band: str) -> list[list[int]]:
    """[right, executable, samples] of each held-out problem of a band."""
    ops = parse_ops(yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["held_out"]["bands"][band])
    found: dict[int, list[int]] = {}
    with (run / "test/samples/test.jsonl").open() as file:
        for row in map(json.loads, file):
            if row["op"] in ops:
                count = found.setdefault(row["index"], [0, 0, 0])
                count[0] += row["accepted"]["answer"]
                count[1] += row["accepted"]["executable"]
                count[2] += 1
    return [found[index] for index in sorted(found)]


def last_quarter(path: Path, names: list[str]) -> dict[str, float]:
    """Means of logged numbers over the last quarter of the rows that have them; those never logged are left out."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: [v for row in rows if row.get(name) and isfinite(v := float(row[name]))] for name in names}
    return {name: fmean(values[-max(1, len(values) // 4) :]) for name, values in columns.items() if values}


def measure(problems: list[list[int]]) -> dict[str, tuple[float, float]]:
    """Mean and standard error over problems: pass@k (executable), and the share of right answers with a fault on the way."""
    right_N, good_N, n_N = torch.tensor(problems).T
    values = {f"pass@{k}": pass_at_k(good_N, n=n_N, k=k) for k in KS if k <= int(n_N.max())}
    values["answer pass@1"] = right_N / n_N
    values["right, wrong process"] = (right_N - good_N) / n_N
    return {name: (float(v.double().mean()), float(v.double().std() / len(v) ** 0.5)) for name, v in values.items()}


def table(kept: dict[str, dict[str, Any]]) -> str:
    """A row for each arm and seed; with several seeds also their mean and its standard error over seeds.

    Args:
        kept: seed -> arm -> {"problems": counts, "metrics": numbers}.
    """
    by_arm = {arm: {seed: of[arm] for seed, of in kept.items()} for arm in next(iter(kept.values()))}
    logged = list(dict.fromkeys(name for runs in by_arm.values() for run in runs.values() for name in run["metrics"]))
    names = list(measure(next(iter(by_arm.values()))[next(iter(kept))]["problems"]))
    rows = [["arm", "seed", *names, *logged]]
    for arm, runs in by_arm.items():
        found = {seed: measure(run["problems"]) for seed, run in runs.items()}
        for seed, values in found.items():
            numbers = [runs[seed]["metrics"].get(name) for name in logged]
            cells = [*(f"{m:.3f} ±{e:.3f}" for m, e in values.values()), *("-" if v is None else f"{v:.3f}" for v in numbers)]
            rows.append([arm, seed.removeprefix("seed"), *cells])
        if len(found) > 1:
            means = [[values[name][0] for values in found.values()] for name in names]
            rows.append([arm, "all", *(f"{fmean(m):.3f} ±{stdev(m) / len(m) ** 0.5:.3f}" for m in means)])
            rows[-1] += [""] * len(logged)
    return align(rows)


def write(study: dict[str, Any], path: Path, folder: Path) -> None:
    """Write the page of a study from the files kept in `folder`."""
    kept = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("seed*.json"))}
    command = f"python -m docs.reinforcement.study {path.stem} " + " ".join(f"runs/quickstart/{seed}" for seed in kept)
    reading = f"{study['reading'].strip()}\n\n" if "reading" in study else ""
    text = (
        f"# {study['title']}\n\n{study['about'].strip()}\n\n```\n{table(kept)}\n```\n\n{reading}"
        f"Held-out problems of band `{study['band']}`; `pass@k` is that of grader `executable`; `right, wrong process` is\n"
        "the share of samples with the right answer after at least one fault. Standard errors are over problems in the row of a\n"
        f"seed, and over seeds in `all`.\n\n`{command}`\n"
    )
    path.with_suffix(".md").write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Run, keep, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="name of a file beside this one, or a path")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of quickstart runs, named seedN")
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/STUDY)")
    args = parser.parse_args(argv)
    path = Path(args.study) if args.study.endswith(".yaml") else HERE / f"{args.study}.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    for source in args.runs:
        out = (args.out or Path("runs") / path.stem) / source.name
        run_arms(study, source, out)
        runs = {START: source / "midtrain"} | {arm: out / arm for arm in study["arms"]}
        names = study.get("metrics", [])
        kept = {
            arm: {
                "problems": counts(run, study["band"]),
                "metrics": {} if arm == START else last_quarter(run / "metrics.csv", names),
            }
            for arm, run in runs.items()
        }
        (folder / f"{source.name}.json").write_text(json.dumps(kept))
    write(study, path, folder)
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
