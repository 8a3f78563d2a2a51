"""Figures of what evaluations found, in the shapes of the paper's; each is drawn where a study has the data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from recipes.report.chart import Chart, Line, Panel
from recipes.report.sourced_numbers import Number, pointer
from recipes.report.studies import Group
from recipes.report.study_values import GRADER, Values

RIGHT = "every step right"
SHADES = "Problems solved with every step right. Shades, whiskers: 95% intervals (over seeds; with one seed over problems)."


class Maker(NamedTuple):
    """A figure: the paper's that have its shape, and what makes it (None where a study lacks the data)."""

    like: tuple[int, ...]
    make: Callable[[Values], Chart | None]


def line(label: str, points: Iterable[tuple[float | str, Number | None]]) -> Line | None:
    """A line of the points that there are."""
    kept = tuple((x, number) for x, number in points if number is not None)
    return Line(label, kept) if kept else None


def panel(title: str, x: str, y: str, lines: Iterable[Line | None], **how: object) -> Panel | None:
    """A panel of the lines that there are; each keeps the style of its place, so that an arm looks the same everywhere."""
    kept = tuple(replace(found, style=place) for place, found in enumerate(lines) if found is not None)
    return Panel(title, x, y, kept, **how) if kept else None


def chart(key: str, title: str, note: str, panels: Iterable[Panel | None]) -> Chart | None:
    """A chart of the panels that there are."""
    kept = tuple(found for found in panels if found is not None)
    return Chart(key, title, note, kept) if kept else None


def _over_k(values: Values, dimension: str, name: str) -> Panel | None:
    lines = [
        line(values.title(group), ((k, values.grade(group, dimension, name, f"pass@{k}")) for k in values.ks()))
        for group in values.study.groups
    ]
    return panel(name, "k", f"pass@k, {RIGHT}", lines, log_x=True)


def pass_at_k(values: Values) -> Chart | None:
    """Pass@k by band."""
    panels = [_over_k(values, "band", band) for band in values.bands()]
    return chart("pass_at_k", "Pass@k by band", SHADES, panels) if len(values.ks()) > 1 else None


def pass_at_k_by_context(values: Values) -> Chart | None:
    """Pass@k by context."""
    contexts = values.names("context")
    if len(contexts) < 2 or len(values.ks()) < 2:
        return None
    return chart("pass_at_k_by_context", "Pass@k by context", SHADES, [_over_k(values, "context", name) for name in contexts])


def by_op(values: Values) -> Chart | None:
    """Pass@1 and pass@n against operations."""
    panels = []
    for k in _ends(values):
        lines = [
            line(values.title(group), ((int(op), values.grade(group, "op", op, f"pass@{k}")) for op in values.names("op")))
            for group in values.study.groups
        ]
        panels.append(panel(f"pass@{k}", "operations", RIGHT, lines))
    return chart("by_operations", "Pass@1 and pass@n by operations", SHADES, panels) if len(values.names("op")) > 1 else None


def by_op_and_context(values: Values) -> Chart | None:
    """Pass@n against operations, context by context."""
    contexts, k = values.names("context"), _ends(values)[-1]
    if len(contexts) < 2:
        return None
    panels = []
    for context in contexts:
        for mode in values.names("mode"):
            lines = [
                line(
                    values.title(group),
                    ((int(op), values.grade(group, "cell", f"{op}/{context}/{mode}", f"pass@{k}")) for op in values.names("op")),
                )
                for group in values.study.groups
            ]
            panels.append(panel(f"{context}, {mode}", "operations", f"pass@{k}, {RIGHT}", lines))
    return chart("by_operations_and_context", f"Pass@{k} by operations and context", SHADES, panels)


def topology(values: Values) -> Chart | None:
    """How alike accepted solutions of one context are to those of another."""
    pairs: dict[str, None] = {}
    for group in values.study.groups:
        found = (values.files.json(group.runs[0].last.evaluation) or {}).get("topology") or {}
        pairs |= dict.fromkeys(found.get(GRADER, {}))
    panels = []
    for pair in pairs:
        lines = [
            line(
                values.title(group),
                ((int(op), values.found(group, "topology", GRADER, pair, op, "similarity")) for op in values.names("op")),
            )
            for group in values.study.groups
        ]
        panels.append(panel(pair, "operations", "similarity of structures", lines))
    note = "For right solutions of the first context, the cosine with the most alike one of the second; see docs/evaluation.md."
    return chart("topology", "Similarity of the structure of right solutions", note, panels)


def bars(values: Values) -> Chart | None:
    """Pass@1 and pass@n by band, arm beside arm."""
    panels = []
    for k in _ends(values):
        lines = [
            line(band, ((values.title(group), values.grade(group, "band", band, f"pass@{k}")) for group in values.study.groups))
            for band in values.bands()
        ]
        panels.append(panel(f"pass@{k}", "", RIGHT, lines, kind="bar"))
    return chart("bars", "Pass@1 and pass@n, arm beside arm", SHADES, panels) if len(values.study.groups) > 1 else None


def differences(values: Values) -> Chart | None:
    """How far each arm's pass@1 and pass@n are from those of the first arm."""
    first, *others = values.study.groups
    panels = []
    for k in _ends(values):
        lines = [
            line(band, ((values.title(g), values.difference(g, first, _mean(band, k))) for g in others))
            for band in values.bands()
        ]
        panels.append(panel(f"pass@{k}", "", f"difference from {first.label}", lines, kind="bar", share=False))
    note = f"Arm less {first.label}, seed by seed, which leaves out what seeds do to both. Whiskers: 95% intervals over seeds."
    return chart("differences", f"What sets arms apart from {first.label}", note, panels)


def _mean(band: str, k: int) -> str:
    return pointer("grades", "band", band, GRADER, f"pass@{k}", "mean")


def statuses(values: Values) -> Chart | None:
    """Which share of the steps that a solution needs is right, wrong, missing."""
    kinds = {
        "right": "correct", "wrong value": "wrong_value", "wrong parents": "wrong_parents", "both wrong": "wrong_both",
        "missing": "missing",
    }  # fmt: skip
    panels = []
    for band in values.bands():
        lines = [
            line(label, ((values.title(g), values.found(g, "grades", "band", band, "nodes", key)) for g in values.study.groups))
            for label, key in kinds.items()
        ]
        panels.append(panel(band, "", "share of needed steps", lines, kind="stack"))
    note = "Wrong parents: a dependency mismatch. Shares of all gold quantities, over all samples."
    return chart("steps", "What becomes of the steps that a solution needs", note, panels)


def gains(values: Values) -> Chart | None:
    """What the last stage added to pass@1 and pass@n."""
    panels = []
    for k in _ends(values):
        lines = [
            line(
                band,
                (
                    (values.title(g), values.gain(g, "grades", "band", band, GRADER, f"pass@{k}", "mean"))
                    for g in values.study.groups
                ),
            )
            for band in values.bands()
        ]
        panels.append(panel(f"pass@{k}", "", "gain over the stage before", lines, kind="bar", share=False))
    return chart("gains", "What the last stage adds to the one before it", SHADES, panels)


def likelihood(values: Values) -> Chart | None:
    """By how much the last stage made gold solutions likelier."""
    lines = [
        line(
            values.title(g),
            (
                (int(op), values.gain(g, "likelihood", f"op{op}", "all", "nll_nats", sign=-1, share=False))
                for op in values.names("op")
            ),
        )
        for g in values.study.groups
    ]
    found = panel("gold solutions", "operations", "reduction of NLL, nats a token", lines, share=False)
    return chart("likelihood", "Reduction of the negative log-likelihood of gold solutions", "Above 0: likelier.", [found])


def _ends(values: Values) -> Sequence[int]:
    """1 and the number of samples."""
    ks = values.ks()
    return [ks[0], ks[-1]] if len(ks) > 1 else ks


def numeric(text: str) -> float | None:
    """A value of an axis as a number, where it is one: "20%", "0.5", "4.20B"."""
    digits = text.rstrip("%BMk")
    return float(digits) if digits.replace(".", "", 1).isdigit() else None


def against_axis(values: Values) -> Chart | None:
    """Pass@1 and pass@n against the last axis, where its values are numbers; a line for each value of the others."""
    if not values.study.axes:
        return None
    axis = list(values.study.axes)[-1]
    placed: dict[str, list[tuple[float, Group]]] = {}
    for group in values.study.groups:
        if (x := numeric(group.values.get(axis, ""))) is not None:
            others = ", ".join(value for name, value in group.values.items() if name != axis)
            placed.setdefault(others or axis, []).append((x, group))
    if max((len(points) for points in placed.values()), default=0) < 3:
        return None
    panels = [
        panel(
            f"{band}, pass@{k}", axis, RIGHT,
            [line(label, ((x, values.grade(g, "band", band, f"pass@{k}")) for x, g in sorted(points, key=lambda p: p[0])))
             for label, points in placed.items()],
        )
        for band in values.bands() for k in _ends(values)
    ]  # fmt: skip
    return chart("against_axis", f"Results against {axis}", f"{SHADES} Arms whose value is no number are left out.", panels)
