"""Differences between arms as a picture: each with its interval, the value of every seed, and the expectation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.report.chart import plt, save

# verdict (its first words) -> colour, marker of the mean; distinct without colour, too
LOOKS = {
    "reproduced": ("#0072B2", "o"), "not reproduced": ("#D55E00", "X"), "not resolvable": ("#6b6b6b", "s"),
    "above zero": ("#0072B2", "^"), "below zero": ("#D55E00", "v"), "no difference": ("#6b6b6b", "D"),
}  # fmt: skip
WANTED = {"above": "> 0", "below": "< 0", "same": "= 0", "open": "?"}


def draw_forest(effects: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG.

    Args:
        effects: with `what`, `expected`, `value`, `low`, `high`, `seeds` and `verdict`.
        path: of the picture.
    """
    figure, axis = plt.subplots(figsize=(9, 1.1 + 0.42 * len(effects)), layout="constrained")
    for row, effect in enumerate(effects):
        label = effect["verdict"].partition(" (")[0]
        colour, marker = LOOKS[label]
        if effect["low"] is not None:
            axis.plot([effect["low"], effect["high"]], [row, row], color=colour, linewidth=2)
        axis.plot(effect["seeds"], [row] * len(effect["seeds"]), "|", color="black", markersize=9, alpha=0.7)
        axis.plot(effect["value"], row, marker, color=colour, markersize=8, label=label, linestyle="none")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(effects)), [f"{e['what']}  (expected {WANTED[e['expected']]})" for e in effects], fontsize=9)
    axis.set_ylim(len(effects) - 0.5, -0.5)
    axis.set_xlabel("difference; line: 95% interval over seeds, ticks: each seed")
    axis.grid(axis="x", alpha=0.3)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)
