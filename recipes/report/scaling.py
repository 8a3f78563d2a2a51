"""Gain of RL against its FLOPs: log-linear fits by least squares over arms, seed by seed.

    gain = g + b log10(C / C0)                       for arms that share one base
    gain = g + b log10(C / C0) + c log10(N / N0)     for all of them

C: FLOPs of the last stage as run; N: parameters without embeddings; C0, N0: geometric means over the arms. A coefficient is a
weighted sum of gains (its row of the pseudoinverse of the design), so that it has its sources, and an interval over seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recipes.report.sourced_numbers import Number, Term, pointer
from recipes.report.studies import Group, Run
from recipes.report.study_values import Values

LEAST_ARMS = 3
LEAST_RANGE = 4  # times the least FLOPs


@dataclass(frozen=True)
class Fit:
    """A fit over arms.

    label:  of the values that its arms share, or "all".
    groups: its arms, by FLOPs.
    centre: C0, in FLOPs.
    terms:  g, b and perhaps c.
    fitted: the fit at each arm.
    """

    label: str
    groups: tuple[Group, ...]
    centre: float
    terms: tuple[Number, ...]
    fitted: tuple[Number, ...]

    @property
    def formula(self) -> str:
        """Its first two terms as people write them; the third, if there is one, is 0 at N0."""
        gain, slope = (term.value for term in self.terms[:2])
        return f"{gain:+.3f} {'-' if slope < 0 else '+'} {abs(slope):.3f} log10(C / {self.centre:.1e})"


def ladders(values: Values) -> dict[str, list[Group]]:
    """Label -> arms that share a base and differ in FLOPs of RL, least first; by the values of all axes but the last."""
    found: dict[tuple[str, str], list[Group]] = {}
    last = next(reversed(list(values.study.axes)), "")
    for group in values.study.groups:
        run = group.runs[0]
        if run.before is not None and values.policy(run) and _cost(values, run):
            label = ", ".join(value for axis, value in group.values.items() if axis != last) or last
            found.setdefault((label, run.before.folder), []).append(group)
    kept = {}
    for (label, _), groups in found.items():
        ordered = sorted(groups, key=lambda group: _cost(values, group.runs[0]))
        least, most = (_cost(values, ordered[place].runs[0]) for place in (0, -1))
        if len(ordered) >= LEAST_ARMS and most >= LEAST_RANGE * least:
            alone = sum(label == other for other, _ in found) == 1
            kept[label if alone else f"{label}, {ordered[0].label} to {ordered[-1].label}"] = ordered
    return kept


def fits(values: Values, band: str, k: int) -> list[Fit]:
    """A fit for each ladder; with several, last one over all arms."""
    found = ladders(values)
    key = pointer("grades", "band", band, values.grader, f"pass@{k}", "mean")
    every = [_fit(values, label, groups, key, sizes=False) for label, groups in found.items()]
    if len(found) > 1:
        every.append(_fit(values, "all", [group for groups in found.values() for group in groups], key, sizes=True))
    return [fit for fit in every if fit is not None]


def _fit(values: Values, label: str, groups: Sequence[Group], key: str, *, sizes: bool) -> Fit | None:
    """A fit over arms, with the seeds that all of them have."""
    by_seed = [{run.seed: run for run in group.runs} for group in groups]
    seeds = sorted(set.intersection(*({*runs} for runs in by_seed)))
    if not seeds:
        return None
    chosen = [[runs[seed] for runs in by_seed] for seed in seeds]
    costs = np.log10([[_cost(values, run) for run in runs] for runs in chosen])
    columns = [np.ones_like(costs), costs - costs.mean()]
    if sizes and len(set(np.ravel(parameters := [[_read(values, run, "/parameters") for run in runs] for runs in chosen]))) > 1:
        columns.append(np.log10(parameters) - np.log10(parameters).mean())
    designs = np.stack(columns, axis=-1)
    inverses = [np.linalg.pinv(design) for design in designs]

    def numbers(weights: Sequence[np.ndarray]) -> tuple[Number | None, ...]:
        """For each row of weights of arms, the weighted sum of their gains."""
        return tuple(
            values.files.number([_weighted(runs, of[place], key) for runs, of in zip(chosen, weights, strict=True)], share=False)
            for place in range(len(weights[0]))
        )

    hats = [design @ inverse for design, inverse in zip(designs, inverses, strict=True)]
    terms, fitted = (tuple(n for n in numbers(of) if n is not None) for of in (inverses, hats))
    whole = len(terms) == len(columns) and len(fitted) == len(groups)
    return Fit(label, tuple(groups), float(10 ** costs.mean()), terms, fitted) if whole else None


def _weighted(runs: Sequence[Run], weights: Sequence[float], key: str) -> list[Term]:
    pairs = [(run, float(weight)) for run, weight in zip(runs, weights, strict=True)]
    stages = [(sign * weight, stage) for run, weight in pairs for sign, stage in ((1, run.last), (-1, run.before))]
    return [Term(weight, stage.evaluation, key) for weight, stage in stages if stage is not None]


def _cost(values: Values, run: Run) -> float:
    return _read(values, run, "/flops")


def _read(values: Values, run: Run, key: str) -> float:
    return values.files.value(run.last.path("compute.json"), key) or 0.0
