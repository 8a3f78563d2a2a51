"""Figures in the shapes of the paper's and beyond; each is drawn if a study has the data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import log10
from typing import Any

from recipes.report.chart import Chart, Line, Panel
from recipes.report.prediction import compared, quantities
from recipes.report.scaling import fits
from recipes.report.sourced_numbers import Number, Term, pointer
from recipes.report.studies import Group, Run, StageFiles
from recipes.report.study_values import GRADER, Values

SHADES = "Shares of problems solved, as the axis says. Shades, whiskers: 95% intervals (over seeds; with one seed over problems)."
MOST_STEPS = 50  # points of a training curve
Points = Iterable[tuple[float | str, Number | None]]


def line(label: str, points: Points) -> Line | None:
    """A line of the points that exist."""
    kept = tuple((x, number) for x, number in points if number is not None)
    return Line(label, kept) if kept else None


def panel(title: str, x: str, y: str, lines: Iterable[Line | None], **how: Any) -> Panel | None:
    """A panel of the lines that exist; each keeps the style of its place, so that an arm looks the same everywhere."""
    kept = tuple(replace(found, style=place) for place, found in enumerate(lines) if found is not None)
    return Panel(title, x, y, kept, **how) if kept else None


def chart(key: str, title: str, note: str, panels: Iterable[Panel | None], *, needed: bool = True) -> Chart | None:
    """A chart of the panels that exist; None without any, or if `needed` data is missing."""
    kept = tuple(found for found in panels if found is not None) if needed else ()
    return Chart(key, title, note, kept) if kept else None


def curves_of_arms(
    values: Values, keys: Iterable[tuple], title: str, x: str, y: str, points: Callable[..., Points], **how: object
) -> list[Panel | None]:
    """A panel for each key, named `title.format(*key)`, with the line `points(arm, *key)` of each arm."""
    groups = values.study.groups
    return [
        panel(title.format(*key), x, y, [line(values.title(group), points(group, *key)) for group in groups], **how)
        for key in keys
    ]


def bars_of_arms(
    values: Values, keys: Iterable[tuple], title: str, y: str, labels: Sequence[str], number: Callable[..., Number | None],
    kind: str = "bar", **how: Any,
) -> list[Panel | None]:  # fmt: skip
    """A panel for each key; at each arm a bar for each label, as high as `number(arm, label, *key)`."""
    named = [(values.title(group), group) for group in values.study.groups]
    return [
        panel(
            title.format(*key), "", y,
            [line(label, ((name, number(group, label, *key)) for name, group in named)) for label in labels], kind=kind, **how,
        )
        for key in keys
    ]  # fmt: skip


def _over_k(values: Values, dimension: str) -> list[Panel | None]:
    def points(group: Group, name: str) -> Points:
        return ((k, values.grade(group, dimension, name, f"pass@{k}")) for k in values.ks())

    return curves_of_arms(values, product(values.names(dimension)), "{}", "k", f"pass@k, {values.accepted}", points, log_x=True)


def pass_at_k(values: Values) -> Chart | None:
    """Pass@k by band."""
    return chart("pass_at_k", "Pass@k by band", SHADES, _over_k(values, "band"), needed=len(values.ks()) > 1)


def pass_at_k_by_context(values: Values) -> Chart | None:
    """Pass@k by context."""
    needed = len(values.names("context")) > 1 and len(values.ks()) > 1
    return chart("pass_at_k_by_context", "Pass@k by context", SHADES, _over_k(values, "context"), needed=needed)


def by_op(values: Values) -> Chart | None:
    """Pass@1 and pass@n against operations."""
    ops = values.names("op")

    def points(group: Group, k: int) -> Points:
        return ((int(op), values.grade(group, "op", op, f"pass@{k}")) for op in ops)

    panels = curves_of_arms(values, product(values.ends()), "pass@{}", "operations", values.accepted, points)
    return chart("by_operations", "Pass@1 and pass@n by operations", SHADES, panels, needed=len(ops) > 1)


def by_op_and_context(values: Values) -> Chart | None:
    """Pass@n against operations, context by context."""
    if not values.ends():
        return None
    contexts, ops, k = values.names("context"), values.names("op"), values.ends()[-1]

    def points(group: Group, context: str, mode: str) -> Points:
        return ((int(op), values.grade(group, "cell", f"{op}/{context}/{mode}", f"pass@{k}")) for op in ops)

    keys = product(contexts, values.names("mode"))
    panels = curves_of_arms(values, keys, "{}, {}", "operations", f"pass@{k}, {values.accepted}", points)
    title = f"Pass@{k} by operations and context"
    return chart("by_operations_and_context", title, SHADES, panels, needed=len(contexts) > 1)


def topology(values: Values) -> Chart | None:
    """How alike accepted solutions of one context are to gold ones of another (in earlier files, to accepted ones)."""
    every = [values.evaluation(group).get("topology") or {} for group in values.study.groups]
    source = next((name for name in (f"{GRADER} to gold", GRADER) if any(name in of for of in every)), GRADER)
    pairs = dict.fromkeys(pair for of in every for pair in of.get(source, {}))

    def points(group: Group, pair: str) -> Points:
        return ((int(op), values.found(group, "topology", source, pair, op, "similarity")) for op in values.names("op"))

    panels = curves_of_arms(values, product(pairs), "{}", "operations", "similarity of structures", points)
    of = "gold" if source != GRADER else "right"
    note = f"For right solutions of the first context, the cosine with the most alike {of} one of the second; docs/evaluation.md."
    return chart("topology", "Similarity of the structure of right solutions", note, panels)


def _bars(values: Values, y: str, number: Callable[[Group, str, int], Number | None], **how: Any) -> list[Panel | None]:
    """Bars of a number by arm and band: a panel for pass@1, another for pass@n."""
    return bars_of_arms(values, product(values.ends()), "pass@{}", y, values.bands(), number, **how)


def bars(values: Values) -> Chart | None:
    """Pass@1 and pass@n by band, arm beside arm."""
    panels = _bars(values, values.accepted, lambda group, band, k: values.grade(group, "band", band, f"pass@{k}"))
    return chart("bars", "Pass@1 and pass@n, arm beside arm", SHADES, panels, needed=len(values.study.groups) > 1)


def differences(values: Values) -> Chart | None:
    """How far each arm's pass@1 and pass@n are from those of the first arm."""
    first = values.study.groups[0]

    def number(group: Group, band: str, k: int) -> Number | None:
        key = pointer("grades", "band", band, values.grader, f"pass@{k}", "mean")
        return None if group is first else values.difference(group, first, key)

    panels = _bars(values, f"difference from {first.label}", number, share=False)
    note = (
        f"Arm minus {first.label}, seed by seed, so that effects of the seed on both cancel. Whiskers: 95% intervals over seeds."
    )
    return chart("differences", f"Differences from {first.label}", note, panels)


def gains(values: Values) -> Chart | None:
    """The gain of the last stage in pass@1 and pass@n."""

    def number(group: Group, band: str, k: int) -> Number | None:
        return values.gain(group, "grades", "band", band, values.grader, f"pass@{k}", "mean")

    panels = _bars(values, "gain over the stage before", number, share=False)
    return chart("gains", "Gain of the last stage over the one before it", SHADES, panels)


def statuses(values: Values) -> Chart | None:
    """Of the steps that a solution needs, the shares that are right, wrong and missing."""
    kinds = {
        "right": "correct", "wrong value": "wrong_value", "wrong parents": "wrong_parents", "both wrong": "wrong_both",
        "missing": "missing",
    }  # fmt: skip

    def number(group: Group, label: str, band: str) -> Number | None:
        return values.found(group, "grades", "band", band, "nodes", kinds[label])

    panels = bars_of_arms(values, product(values.bands()), "{}", "share of needed steps", list(kinds), number, "stack")
    note = "Wrong parents: a dependency mismatch. Shares of all gold quantities, over all samples."
    return chart("steps", "The steps that a solution needs", note, panels)


def faults(values: Values) -> Chart | None:
    """Of the samples, the shares that are right and that have a fault, each sample under its first."""
    kinds = {"missing quantities": "missing", "dependency mismatch": "parents", "wrong values": "values"}

    def number(group: Group, label: str, band: str) -> Number | None:
        if label in kinds:
            return values.found(group, "grades", "band", band, "faults", kinds[label])
        return values.found(group, "grades", "band", band, "paper", "pass@1", "mean")

    labels = ["right", *kinds]
    panels = bars_of_arms(values, product(values.bands()), "{}", "share of samples", labels, number, "stack")
    known = any("faults" in values.evaluation(group)["grades"]["all"]["all"] for group in values.study.groups)
    note = "By the paper's grader; what lacks to 1 has every gold quantity right and another answer."
    return chart("faults", "What is wrong with solutions", note, panels, needed=known)


def likelihood(values: Values) -> Chart | None:
    """By how much the last stage made gold solutions likelier."""

    def points(group: Group) -> Points:
        ops = values.names("op")
        return ((int(op), values.gain(group, "likelihood", f"op{op}", "all", "nll_nats", sign=-1, share=False)) for op in ops)

    y = "reduction of NLL, nats a token"
    panels = curves_of_arms(values, [()], "gold solutions", "operations", y, points, share=False)
    return chart("likelihood", "Reduction of the negative log-likelihood of gold solutions", "Above 0: likelier.", panels)


def numeric(texts: Iterable[str]) -> dict[str, float]:
    """Those values of an axis that are numbers: "20%", "0.5", "4.20B"; if their units differ ("500k", "1M"), without units."""
    digits = {text: text.rstrip("%BMk") for text in texts}
    numbers = {text: float(found) for text, found in digits.items() if found.replace(".", "", 1).isdigit()}
    units = {text: text.removeprefix(digits[text]) for text in numbers}
    scales = {"k": 1e3, "M": 1e6, "B": 1e9} if len(set(units.values())) > 1 else {}
    return {text: number * scales.get(units[text], 1) for text, number in numbers.items()}


def _by_band_and_k(values: Values, x: str, points: Callable[[Group, str, int], Points]) -> list[Panel | None]:
    return curves_of_arms(values, product(values.bands(), values.ends()), "{}, pass@{}", x, values.accepted, points)


def against_axis(values: Values) -> Chart | None:
    """Pass@1 and pass@n against the last axis, if its values are numbers; a line for each value of the others."""
    axis = next(reversed(list(values.study.axes)), "")
    placed: dict[str, list[tuple[float, Group]]] = {}
    numbers = numeric(group.values.get(axis, "") for group in values.study.groups)
    for group in values.study.groups:
        if (x := numbers.get(group.values.get(axis, ""))) is not None:
            others = ", ".join(value for name, value in group.values.items() if name != axis)
            placed.setdefault(others or axis, []).append((x, group))
    panels = [
        panel(
            f"{band}, pass@{k}", axis, values.accepted,
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

    def points(group: Group, band: str, k: int) -> Points:
        x = values.number(group, lambda run: [Term(1, s.path("compute.json"), "/flops") for s in run.stages], share=False)
        return [(x.value, values.grade(group, "band", band, f"pass@{k}"))] if x else []

    panels = _by_band_and_k(values, "FLOPs as run", points)
    note = "One mark an arm, whiskers: 95% intervals. FLOPs of training, all stages of a run, shared ones counted in each arm."
    return chart("compute", "Results against compute", note, panels, needed=len(values.study.groups) > 1)


def gain_against_flops(values: Values) -> Chart | None:
    """Gain of RL at the edge against its FLOPs, with a fit for each ladder of arms."""

    def panels(band: str, k: int) -> Iterator[Panel | None]:
        key = ("grades", "band", band, values.grader, f"pass@{k}", "mean")
        for fit in fits(values, band, k):
            places = [log10(values.files.value(group.runs[0].last.path("compute.json"), "/flops")) for group in fit.groups]
            if fit.label != "all":
                found = [line("measured", zip(places, (values.gain(group, *key) for group in fit.groups), strict=True))]
                lines = [*found, line("least squares", zip(places, fit.fitted, strict=True))]
                x = f"log10 of C, FLOPs of RL; line: {fit.formula}"
                yield panel(f"{fit.label}, {band} pass@{k}", x, "gain over the stage before", lines, share=False)

    bands = [band for band in values.bands() if band == "edge"] or values.bands()
    found = [of for band, k in product(bands, values.ends()) for of in panels(band, k)]
    note = "Arms that share a base and differ in RL alone; log-linear fits, seed by seed. Coefficients are in the table."
    return chart("gain_against_flops", "Gain of RL against its FLOPs", note, found)


def gain_prediction(values: Values) -> Chart | None:
    """Gain of RL at the edge against what was measured before it, a point for each arm."""
    groups = compared(values)
    bands = [band for band in values.bands() if band == "edge"] or values.bands()

    def points(name: str, band: str, k: int) -> Points:
        key = ("grades", "band", band, values.grader, f"pass@{k}", "mean")
        for group in groups:
            x = values.number(group, lambda run: [of[name]] if name in (of := quantities(values, run, band)) else [], share=False)
            if x is not None:
                yield x.value, values.gain(group, *key)

    found = [
        panel(
            f"{band}, pass@{k}", f"before RL: {name}", "gain over the stage before",
            [line("arms", sorted(points(name, band, k), key=lambda point: point[0]))], share=False, joined=False,
        )
        for band in bands if groups for name in quantities(values, groups[0].runs[0], band) for k in values.ends()
    ]  # fmt: skip
    note = "One mark an arm, means over seeds; whiskers: 95% intervals. Rank correlations are in the table."
    return chart("gain_prediction", "Gain of RL against what was measured before", note, found)


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

    def points(group: Group, title: str, column: str) -> Points:
        return _curve(values, group, column, values.policy)

    def panels(*columns: tuple[str, str], share: bool) -> list[Panel | None]:
        return curves_of_arms(values, columns, "{}", "update", "mean over rollouts", points, share=share)

    shares = (("rollouts right in every step", f"train/{GRADER}"), ("right answers", "train/answer"))
    plain = (("reward", "train/reward"), ("tokens of a response", "train/response_tokens"))
    found = [*panels(*plain, share=False), *panels(*shares, share=True)]
    note = "The mean of each rollout, over seeds; prompts are those of training."
    return chart("rewards", "Rollouts in training", note, found)


def validation(values: Values) -> Chart | None:
    """Pass@k of validation during RL, over FLOPs if the runs logged them (`ComputeBudget`), else over updates."""
    spent = "train/compute_flops"
    policies = [found for group in values.study.groups if (found := values.policy(group.runs[0]))]
    over = spent if policies and all(values.steps(stage, spent) for stage in policies) else None

    def points(group: Group, band: str, k: int) -> Points:
        found = list(_curve(values, group, f"val/{values.grader}/pass@{k}/{band}", values.policy, over))
        return found if len(found) > 1 else []

    panels = _by_band_and_k(values, "FLOPs" if over else "update", points)
    return chart("validation", "Validation during RL", "Means over seeds, at updates that all of them reached.", panels)


def across_stages(values: Values) -> Chart | None:
    """Pass@k before RL and after each of several stages of it."""

    def chain(run: Run) -> list[StageFiles]:
        rl = [stage for stage in run.stages if values.is_policy(stage)]
        return [*[stage for stage in run.stages if stage not in rl][-1:], *rl]

    def points(group: Group, band: str, k: int) -> Points:
        key = pointer("grades", "band", band, values.grader, f"pass@{k}", "mean")
        for place in range(len(chain(group.runs[0]))):
            yield place, values.number(group, lambda run, place=place: [Term(1, chain(run)[place].evaluation, key)])  # type: ignore[misc]

    longest = max(len(chain(group.runs[0])) for group in values.study.groups)
    note = "0: before RL; then after each of its stages, which start from one another."
    return chart(
        "across_stages", "From stage to stage of RL", note, _by_band_and_k(values, "RL stages", points), needed=longest > 2
    )


def loss(values: Values) -> list[Panel | None]:
    """Training loss of stages that are not RL, over tokens; for each arm its last stage."""

    def points(group: Group) -> Points:
        return _curve(values, group, "train/loss", lambda run: None if values.policy(run) else run.last, "train/tokens")

    title, y = "pre- and mid-training", "training loss"
    return curves_of_arms(values, [()], title, "tokens", y, points, share=False, log_y=True)


def curves(values: Values) -> Chart | None:
    """A whole run in one picture: loss, rollouts, results by operations."""
    found = [chart.panels for chart in (rewards(values), by_op(values)) if chart]
    return chart("curves", "Curves", "", [*loss(values), *(panel for panels in found for panel in panels)])


def ladder(values: Values) -> Chart | None:
    """Validation during pre-training, by bands and operation by operation."""
    groups = {group.runs[0].stages[0].folder: group for group in reversed(values.study.groups)}
    group = list(groups.values())[-1]
    columns = values.files.rows(group.runs[0].stages[0].path("metrics.csv"))[:1]
    found = [name for name in (columns[0] if columns else {}) if name.startswith(f"val/{values.grader}/pass@")]
    panels = []
    for k, one in product(dict.fromkeys(name.split("/")[2] for name in found), (False, True)):
        names = [name for name in found if name.split("/")[2] == k and ("/op" in name) == one]
        lines = [line(name.rpartition("/")[2], _curve(values, group, name, lambda run: run.stages[0])) for name in names]
        panels.append(panel(k, "update", values.accepted, [of for of in lines if of and len(of.points) > 1]))
    note = f"Validation in training, by bands and by operations; the pre-training of arm {group.label}."
    return chart("ladder", "Pre-training, band by band and operation by operation", note, panels)


def compositions(values: Values) -> Chart | None:
    """Accuracy of compositions of two skills beside the product of the skills' own accuracies."""
    keys = {"both steps right": "accuracy", "product of the skills'": "expected"}

    def number(group: Group, label: str, pair: str) -> Number | None:
        return values.found(group, "skills", "all", "composed", pair, keys[label])

    panels = bars_of_arms(values, product(_pairs(values)), "{}", "share of trials", list(keys), number)
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
            config = values.files.yaml(stage.path("config.yaml")) or {}
            withheld |= dict.fromkeys(config.get("data", {}).get("init_args", {}).get("graph", {}).get("withheld") or ())
        found: Mapping[str, Mapping[str, float]] = values.evaluation(group).get("skills", {}).get("all", {}).get("composed", {})
        for pair, counts in found.items():
            trials[pair] = trials.get(pair, 0) + counts["trials"]
    tried = sorted(trials, key=lambda pair: -trials[pair])
    return list(dict.fromkeys([*(pair for pair in withheld if pair in trials), *tried]))[:most]


# what makes each figure (None if a study lacks the data) -> the figures of the paper that have its shape; in the order in which
# a report shows them, unless a recipe names figures
MAKERS: dict[Callable[[Values], Chart | None], tuple[int, ...]] = {
    differences: (), pass_at_k: (3,), pass_at_k_by_context: (12, 13), by_op: (6,), by_op_and_context: (4,), topology: (5,),
    bars: (7,), faults: (8,), statuses: (), ladder: (9,), likelihood: (10,), rewards: (11, 14, 16, 17), validation: (),
    gains: (15,), against_axis: (18,), compute: (18,), compositions: (), across_stages: (), gain_against_flops: (),
    gain_prediction: (),
}  # fmt: skip
GRADED = {
    differences, pass_at_k, pass_at_k_by_context, by_op, by_op_and_context, bars, ladder, validation, gains, against_axis,
    compute, across_stages, gain_against_flops, gain_prediction,
}  # fmt: skip
