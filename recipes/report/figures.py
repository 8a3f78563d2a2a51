"""Figures in the shapes of the paper's and beyond; each is drawn if a study has the data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from recipes.report.chart import Chart, Line, Panel
from recipes.report.sourced_numbers import Number, Term, pointer
from recipes.report.studies import Group, Run, StageFiles
from recipes.report.study_values import GRADER, Values

RIGHT = "every step right"
SHADES = "Problems solved with every step right. Shades, whiskers: 95% intervals (over seeds; with one seed over problems)."
MOST_STEPS = 50  # points of a training curve
Points = Iterable[tuple[float | str, Number | None]]


class Maker(NamedTuple):
    """A figure: those of the paper that have its shape, and the function that makes it (None if a study lacks the data)."""

    like: tuple[int, ...]
    make: Callable[[Values], Chart | None]


def line(label: str, points: Points) -> Line | None:
    """A line of the points that exist."""
    kept = tuple((x, number) for x, number in points if number is not None)
    return Line(label, kept) if kept else None


def by_group(values: Values, points: Callable[[Group], Points]) -> list[Line | None]:
    """A line for each arm."""
    return [line(values.title(group), points(group)) for group in values.study.groups]


def across_groups(values: Values, labels: Iterable[str], number: Callable[[Group, str], Number | None]) -> list[Line | None]:
    """A line for each label, with a point for each arm."""
    groups = values.study.groups
    return [line(label, ((values.title(group), number(group, label)) for group in groups)) for label in labels]


def panel(title: str, x: str, y: str, lines: Iterable[Line | None], **how: object) -> Panel | None:
    """A panel of the lines that exist; each keeps the style of its place, so that an arm looks the same everywhere."""
    kept = tuple(replace(found, style=place) for place, found in enumerate(lines) if found is not None)
    return Panel(title, x, y, kept, **how) if kept else None


def chart(key: str, title: str, note: str, panels: Iterable[Panel | None], *, needed: bool = True) -> Chart | None:
    """A chart of the panels that exist; None without any, or if `needed` data is missing."""
    kept = tuple(found for found in panels if found is not None) if needed else ()
    return Chart(key, title, note, kept) if kept else None


def _over_k(values: Values, dimension: str, name: str) -> Panel | None:
    lines = by_group(values, lambda g: ((k, values.grade(g, dimension, name, f"pass@{k}")) for k in values.ks()))
    return panel(name, "k", f"pass@k, {RIGHT}", lines, log_x=True)


def pass_at_k(values: Values) -> Chart | None:
    """Pass@k by band."""
    panels = [_over_k(values, "band", band) for band in values.bands()]
    return chart("pass_at_k", "Pass@k by band", SHADES, panels, needed=len(values.ks()) > 1)


def pass_at_k_by_context(values: Values) -> Chart | None:
    """Pass@k by context."""
    contexts = values.names("context")
    panels = [_over_k(values, "context", name) for name in contexts]
    needed = len(contexts) > 1 and len(values.ks()) > 1
    return chart("pass_at_k_by_context", "Pass@k by context", SHADES, panels, needed=needed)


def by_op(values: Values) -> Chart | None:
    """Pass@1 and pass@n against operations."""
    ops = values.names("op")
    panels = [
        panel(
            f"pass@{k}", "operations", RIGHT,
            by_group(values, lambda g, k=k: ((int(op), values.grade(g, "op", op, f"pass@{k}")) for op in ops)),
        )
        for k in values.ends()
    ]  # fmt: skip
    return chart("by_operations", "Pass@1 and pass@n by operations", SHADES, panels, needed=len(ops) > 1)


def by_op_and_context(values: Values) -> Chart | None:
    """Pass@n against operations, context by context."""
    contexts, ops, k = values.names("context"), values.names("op"), values.ends()[-1]

    def points(group: Group, cell: str) -> Points:
        return ((int(op), values.grade(group, "cell", f"{op}/{cell}", f"pass@{k}")) for op in ops)

    panels = [
        panel(
            f"{context}, {mode}", "operations", f"pass@{k}, {RIGHT}",
            by_group(values, lambda g, cell=f"{context}/{mode}": points(g, cell)),
        )
        for context in contexts for mode in values.names("mode")
    ]  # fmt: skip
    title = f"Pass@{k} by operations and context"
    return chart("by_operations_and_context", title, SHADES, panels, needed=len(contexts) > 1)


def topology(values: Values) -> Chart | None:
    """How alike accepted solutions of one context are to those of another."""
    pairs: dict[str, None] = {}
    for group in values.study.groups:
        pairs |= dict.fromkeys((values.evaluation(group).get("topology") or {}).get(GRADER, {}))

    def points(group: Group, pair: str) -> Points:
        return ((int(op), values.found(group, "topology", GRADER, pair, op, "similarity")) for op in values.names("op"))

    panels = [
        panel(pair, "operations", "similarity of structures", by_group(values, lambda g, pair=pair: points(g, pair)))
        for pair in pairs
    ]
    note = "For right solutions of the first context, the cosine with the most alike one of the second; see docs/evaluation.md."
    return chart("topology", "Similarity of the structure of right solutions", note, panels)


def _bars(values: Values, number: Callable[[Group, str, int], Number | None], y: str, **how: object) -> list[Panel | None]:
    """Bars of a number by arm and band: a panel for pass@1, another for pass@n."""
    return [
        panel(
            f"pass@{k}", "", y, across_groups(values, values.bands(), lambda g, band, k=k: number(g, band, k)), kind="bar", **how
        )
        for k in values.ends()
    ]


def bars(values: Values) -> Chart | None:
    """Pass@1 and pass@n by band, arm beside arm."""
    panels = _bars(values, lambda g, band, k: values.grade(g, "band", band, f"pass@{k}"), RIGHT)
    return chart("bars", "Pass@1 and pass@n, arm beside arm", SHADES, panels, needed=len(values.study.groups) > 1)


def differences(values: Values) -> Chart | None:
    """How far each arm's pass@1 and pass@n are from those of the first arm."""
    first = values.study.groups[0]

    def number(group: Group, band: str, k: int) -> Number | None:
        key = pointer("grades", "band", band, GRADER, f"pass@{k}", "mean")
        return None if group is first else values.difference(group, first, key)

    panels = _bars(values, number, f"difference from {first.label}", share=False)
    note = (
        f"Arm minus {first.label}, seed by seed, so that effects of the seed on both cancel. Whiskers: 95% intervals over seeds."
    )
    return chart("differences", f"Differences from {first.label}", note, panels)


def gains(values: Values) -> Chart | None:
    """The gain of the last stage in pass@1 and pass@n."""
    panels = _bars(
        values, lambda g, band, k: values.gain(g, "grades", "band", band, GRADER, f"pass@{k}", "mean"),
        "gain over the stage before", share=False,
    )  # fmt: skip
    return chart("gains", "Gain of the last stage over the one before it", SHADES, panels)


def statuses(values: Values) -> Chart | None:
    """Of the steps that a solution needs, the shares that are right, wrong and missing."""
    kinds = {
        "right": "correct", "wrong value": "wrong_value", "wrong parents": "wrong_parents", "both wrong": "wrong_both",
        "missing": "missing",
    }  # fmt: skip

    def number(group: Group, band: str, label: str) -> Number | None:
        return values.found(group, "grades", "band", band, "nodes", kinds[label])

    panels = [
        panel(
            band, "", "share of needed steps", across_groups(values, kinds, lambda g, label, band=band: number(g, band, label)),
            kind="stack",
        )
        for band in values.bands()
    ]  # fmt: skip
    note = "Wrong parents: a dependency mismatch. Shares of all gold quantities, over all samples."
    return chart("steps", "The steps that a solution needs", note, panels)


def likelihood(values: Values) -> Chart | None:
    """By how much the last stage made gold solutions likelier."""

    def points(group: Group) -> Points:
        ops = values.names("op")
        return ((int(op), values.gain(group, "likelihood", f"op{op}", "all", "nll_nats", sign=-1, share=False)) for op in ops)

    found = panel("gold solutions", "operations", "reduction of NLL, nats a token", by_group(values, points), share=False)
    return chart("likelihood", "Reduction of the negative log-likelihood of gold solutions", "Above 0: likelier.", [found])


def numeric(text: str) -> float | None:
    """A value of an axis as a number, if it is one: "20%", "0.5", "4.20B"."""
    digits = text.rstrip("%BMk")
    return float(digits) if digits.replace(".", "", 1).isdigit() else None


def against_axis(values: Values) -> Chart | None:
    """Pass@1 and pass@n against the last axis, if its values are numbers; a line for each value of the others."""
    axis = next(reversed(values.study.axes), "")
    placed: dict[str, list[tuple[float, Group]]] = {}
    for group in values.study.groups:
        if (x := numeric(group.values.get(axis, ""))) is not None:
            others = ", ".join(value for name, value in group.values.items() if name != axis)
            placed.setdefault(others or axis, []).append((x, group))
    panels = [
        panel(
            f"{band}, pass@{k}", axis, RIGHT,
            [line(label, ((x, values.grade(g, "band", band, f"pass@{k}")) for x, g in sorted(points, key=lambda p: p[0])))
             for label, points in placed.items()],
        )
        for band in values.bands() for k in values.ends()
    ]  # fmt: skip
    needed = max((len(points) for points in placed.values()), default=0) > 2
    note = f"{SHADES} Arms whose value is no number are left out."
    return chart("against_axis", f"Results against {axis}", note, panels, needed=needed)


def compute(values: Values) -> Chart | None:
    """Results against FLOPs, all stages of a run together."""

    def flops(group: Group) -> Number | None:
        return values.number(group, lambda run: [Term(1, s.path("compute.json"), "/flops") for s in run.stages], share=False)

    def points(group: Group, band: str, k: int) -> Points:
        x = flops(group)
        return [(x.value, values.grade(group, "band", band, f"pass@{k}"))] if x else []

    panels = [
        panel(
            f"{band}, pass@{k}", "FLOPs as run", RIGHT, by_group(values, lambda g, band=band, k=k: points(g, band, k))
        )
        for band in values.bands() for k in values.ends()
    ]  # fmt: skip
    note = "One mark an arm, whiskers: 95% intervals. FLOPs of training, all stages of a run, shared ones counted in each arm."
    return chart("compute", "Results against compute", note, panels, needed=len(values.study.groups) > 1)


def _curve(
    values: Values, group: Group, column: str, stage: Callable[[Run], StageFiles | None], over: str | None = None
) -> Points:
    """A logged column against updates, or `over` another column; at most `MOST_STEPS` points, evenly, the last among them."""
    first = stage(group.runs[0])
    steps = values.steps(first, column) if first else []
    for step in steps[::-1][:: -(-len(steps) // MOST_STEPS) or 1][::-1]:
        if (number := values.logged(group, column, step, stage)) is not None:
            yield (step if over is None else values.last_logged(group, over, step, stage)), number


def rewards(values: Values) -> Chart | None:
    """Rewards of rollouts by step of RL."""
    columns = {"train/reward": "reward", f"train/{GRADER}": "rollouts right in every step", "train/answer": "right answers"}
    panels = [
        panel(
            title, "update", "mean over rollouts",
            by_group(values, lambda g, column=column: _curve(values, g, column, values.policy)), share=column != "train/reward",
        )
        for column, title in columns.items()
    ]  # fmt: skip
    note = "The mean of each rollout, over seeds; prompts are those of training."
    return chart("rewards", "Rollouts in training", note, panels)


def validation(values: Values) -> Chart | None:
    """Pass@k of validation during RL, over FLOPs if the runs logged them (`ComputeBudget`), else over updates."""
    spent = "train/compute_flops"
    policies = [found for group in values.study.groups if (found := values.policy(group.runs[0]))]
    over = spent if policies and all(values.steps(stage, spent) for stage in policies) else None

    def points(group: Group, band: str, k: int) -> Points:
        found = list(_curve(values, group, f"val/{GRADER}/pass@{k}/{band}", values.policy, over))
        return found if len(found) > 1 else []

    panels = [
        panel(
            f"{band}, pass@{k}", "FLOPs" if over else "update", RIGHT,
            by_group(values, lambda g, band=band, k=k: points(g, band, k)),
        )
        for band in values.bands() for k in values.ends()
    ]  # fmt: skip
    return chart("validation", "Validation during RL", "Means over seeds, at updates that all of them reached.", panels)


def loss(values: Values) -> Panel | None:
    """Training loss of stages that are not RL, over tokens; for each arm its last stage."""

    def supervised(run: Run) -> StageFiles | None:
        return None if values.policy(run) else run.last

    lines = by_group(values, lambda g: _curve(values, g, "train/loss", supervised, "train/tokens"))
    return panel("pre- and mid-training", "tokens", "training loss", lines, share=False, log_y=True)


def curves(values: Values) -> Chart | None:
    """A whole run in one picture: loss, rollouts, results by operations."""
    found = [chart.panels for chart in (rewards(values), by_op(values)) if chart]
    return chart("curves", "Curves", "", [loss(values), *(panel for panels in found for panel in panels)])


def ladder(values: Values) -> Chart | None:
    """Validation during pre-training, operation by operation."""
    groups = {group.runs[0].stages[0].folder: group for group in reversed(values.study.groups)}
    group = list(groups.values())[-1]
    columns = values.files.rows(group.runs[0].stages[0].path("metrics.csv"))[:1]
    found = [name for name in (columns[0] if columns else {}) if name.startswith(f"val/{GRADER}/pass@") and "/op" in name]
    panels = []
    for k in dict.fromkeys(name.split("/")[2] for name in found):
        names = [name for name in found if name.split("/")[2] == k]
        lines = [line(name.rpartition("/")[2], _curve(values, group, name, lambda run: run.stages[0])) for name in names]
        panels.append(panel(k, "update", RIGHT, [of for of in lines if of and len(of.points) > 1]))
    note = f"Validation in training, by operations; the pre-training of arm {group.label}."
    return chart("ladder", "Pre-training, operation by operation", note, panels)


def compositions(values: Values) -> Chart | None:
    """Accuracy of compositions of two skills beside the product of the skills' own accuracies."""
    keys = {"both steps right": "accuracy", "product of the skills'": "expected"}

    def number(group: Group, pair: str, label: str) -> Number | None:
        return values.found(group, "skills", "all", "composed", pair, keys[label])

    panels = [
        panel(
            pair, "", "share of trials", across_groups(values, keys, lambda g, label, pair=pair: number(g, pair, label)),
            kind="bar",
        )
        for pair in _pairs(values)
    ]  # fmt: skip
    note = (
        "A > B: B reads what A computes; trials have right inputs from elsewhere. Product: the two skills' own accuracies "
        "multiplied. Withheld compositions first."
    )
    return chart("compositions", "Compositions of two skills", note, panels)


def _pairs(values: Values, most: int = 4) -> list[str]:
    """Withheld compositions, then those that were tried most often."""
    trials: dict[str, float] = {}
    withheld: dict[str, None] = {}
    for group in values.study.groups:
        for stage in group.runs[0].stages:
            withheld |= dict.fromkeys(_withheld(values, stage))
        found: Mapping[str, Mapping[str, float]] = values.evaluation(group).get("skills", {}).get("all", {}).get("composed", {})
        for pair, counts in found.items():
            trials[pair] = trials.get(pair, 0) + counts["trials"]
    return list(dict.fromkeys([*withheld, *sorted(trials, key=lambda pair: -trials[pair])]))[:most]


def _withheld(values: Values, stage: StageFiles) -> Sequence[str]:
    """Compositions that a stage's training leaves out."""
    config = values.files.yaml(stage.path("config.yaml")) or {}
    return config.get("data", {}).get("init_args", {}).get("graph", {}).get("withheld") or ()


# in the order in which a report shows them, unless a recipe names figures
MAKERS = (
    Maker((), differences),
    Maker((3,), pass_at_k), Maker((12, 13), pass_at_k_by_context), Maker((6,), by_op), Maker((4,), by_op_and_context),
    Maker((5,), topology), Maker((7,), bars), Maker((8,), statuses), Maker((9,), ladder), Maker((10,), likelihood),
    Maker((11, 14, 16, 17), rewards), Maker((), validation), Maker((15,), gains), Maker((18,), against_axis),
    Maker((18,), compute), Maker((), compositions),
)  # fmt: skip
