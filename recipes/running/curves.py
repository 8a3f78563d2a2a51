"""Curves of a run as one picture, read from `metrics.csv` and `test/pass_at_k.json` of its stages."""

import csv
from pathlib import Path

from matplotlib.axes import Axes

from callbacks.files import read_json
from recipes.report.chart import MARKERS, STYLES, plt, save


def series(path: Path, column: str) -> tuple[list[float], list[float]]:
    """Points (tokens so far, column) of a metrics.csv; rows without the column are left out."""
    xs: list[float] = []
    ys: list[float] = []
    tokens = 0.0
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            tokens = float(row.get("train/tokens") or tokens)
            if row.get(column):
                xs.append(tokens)
                ys.append(float(row[column]))
    return xs, ys


def draw_curves(out: Path, stages: list[str]) -> Path:
    """Draw training curves and pass@k by operations to `curves.png`; return its path."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    _training(axes[0], out, stages, ("train/loss",), "training loss (pre- and mid-training)")
    _training(axes[1], out, stages, ("train/reward", "train/answer", "train/executable"), "rollouts of RL")
    _by_op(axes[2], out, stages)
    return save(figure, out / "curves.png")


def _training(axis: Axes, out: Path, stages: list[str], columns: tuple[str, ...], title: str) -> None:
    offset = 0.0
    for i, stage in enumerate(stages):
        is_policy = bool(series(out / stage / "metrics.csv", "train/reward")[1])
        if is_policy == (columns == ("train/loss",)):
            continue
        for j, column in enumerate(columns):
            xs, ys = series(out / stage / "metrics.csv", column)
            label = stage if len(columns) == 1 else f"{stage}: {column.removeprefix('train/')}"
            axis.plot([(offset + x) / 1e6 for x in xs], ys, linestyle=STYLES[(i + j) % len(STYLES)], label=label)
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
