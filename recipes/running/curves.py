"""Curves of a run as one picture, read from `metrics.csv` and `test/pass_at_k.json` of its stages."""

import csv
import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from recipes.text_tables import read_json

MARKERS, STYLES = ("o", "s", "^", "D"), ("-", "--", ":", "-.")  # told apart without colour


def series(path: Path, column: str, over: str = "train/tokens") -> tuple[list[float], list[float]]:
    """Points (over, column) of a metrics.csv; rows without the column are left out, `over` is the last one seen."""
    xs: list[float] = []
    ys: list[float] = []
    last = 0.0
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            last = float(row.get(over) or last)
            if row.get(column):
                xs.append(last)
                ys.append(float(row[column]))
    return xs, ys


def draw_curves(out: Path, stages: list[str]) -> Path:
    """Draw training curves and pass@k by operations to `curves.png`; return its path."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    _training(axes[0], out, stages, ("train/loss",), "training loss (pre- and mid-training)")
    _training(axes[1], out, stages, ("train/reward", "train/answer", "train/executable"), "rollouts of RL")
    _by_op(axes[2], out, stages)
    path = out / "curves.png"
    part = path.with_suffix(".part.png")
    figure.savefig(part, dpi=120)
    plt.close(figure)
    os.replace(part, path)
    return path


def _training(axis: Axes, out: Path, stages: list[str], columns: tuple[str, ...], title: str) -> None:
    offset = 0.0
    for i, stage in enumerate(stages):
        is_policy = bool(series(out / stage / "metrics.csv", "train/reward")[1])
        if is_policy == (columns == ("train/loss",)):
            continue
        for j, column in enumerate(columns):
            xs, ys = series(out / stage / "metrics.csv", column)
            label = stage if len(columns) == 1 else f"{stage}: {column.removeprefix('train/')}"
            axis.plot([(offset + x) / 1e6 for x in xs], ys, STYLES[(i + j) % len(STYLES)], label=label)
        offset += read_json(out / stage / "training.json")["tokens"]
    axis.set(title=title, xlabel="tokens (millions)")
    if columns == ("train/loss",):
        axis.set_yscale("log")
    axis.legend()
    axis.grid(alpha=0.3)


def _by_op(axis: Axes, out: Path, stages: list[str]) -> None:
    for i, stage in enumerate(stages):
        passes = read_json(out / stage / "test" / "pass_at_k.json")
        ops = sorted(int(name[2:]) for name in passes if name.removeprefix("op").isdigit())
        for metric, fill in (("pass@1", "full"), ("pass@8", "none")):
            ys = [passes[f"op{op}"]["executable"].get(metric, {}).get("mean", float("nan")) for op in ops]
            style = MARKERS[i % len(MARKERS)] + STYLES[metric == "pass@8"]
            axis.plot(ops, ys, style, color=f"C{i}", fillstyle=fill, label=f"{stage} {metric}")
    axis.set(title="held-out problems, every step right", xlabel="operations", ylabel="share", ylim=(-0.03, 1.03))
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
