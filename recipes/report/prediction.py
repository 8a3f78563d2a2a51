"""What is measured before RL against the gain of RL: rank correlations over arms and seeds.

Spearman's rho, ties at their mean rank. Runs count that start from different models and end in equally long RL. Runs of a seed
share its pre-training, so the mean over seeds of rho within a seed, with its interval, says more than rho of all runs. A quantity
that itself enters the gain (pass@k before RL) is pulled below zero by chance alone and by the ceiling of 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from recipes.report.sourced_numbers import Term, pointer, t_quantile
from recipes.report.studies import Group, Run
from recipes.report.study_values import Values

LEAST_BASES = 3
DIGITS = 12  # differences that should be equal are equal to so many
ENTROPY = "train/entropy_nats"
Pair = tuple[Sequence[Term], Sequence[Term]]  # what is known before RL, and its gain


@dataclass(frozen=True)
class Correlation:
    """A quantity before RL and the gain in pass@k.

    quantity, band, k: which.
    values:  arm -> a pair for each seed: the quantity, the gain.
    overall: rho over all runs; None if one of the two does not vary.
    by_seed: rho over the arms of a seed, for seeds that all arms have and whose arms vary in both.
    sources: for each of these seeds and each arm, the terms of the quantity and those of the gain.
    within:  mean of rho over these seeds; low, high: its 95% interval (Student's t), with two seeds or more.
    """

    quantity: str
    band: str
    k: int
    values: Mapping[str, Sequence[tuple[float, float]]]
    overall: float | None
    by_seed: Mapping[int, float]
    sources: Sequence[Sequence[Pair]]
    within: float | None
    low: float | None
    high: float | None


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's rho: the correlation of ranks; None with fewer than three pairs, or if one side does not vary."""
    xs, ys = ([round(value, DIGITS) for value in side] for side in (xs, ys))
    if len(xs) < LEAST_BASES or len(set(xs)) == 1 or len(set(ys)) == 1:
        return None
    return float(np.corrcoef(_ranks(xs), _ranks(ys))[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def compared(values: Values) -> list[Group]:
    """Arms that end in equally long RL, from models of their own; none with fewer than three."""
    found: dict[str, Group] = {}
    for group in values.study.groups:
        if (before := group.runs[0].before) is not None and values.policy(group.runs[0]):
            found.setdefault(before.folder, group)
    lengths = {max(values.steps(group.runs[0].last, "train/reward"), default=0) for group in found.values()}
    return list(found.values()) if len(found) >= LEAST_BASES and len(lengths) == 1 else []


def quantities(values: Values, run: Run, band: str) -> dict[str, Term]:
    """What is known before RL: name -> where it stands, signed so that more is better (but for entropy)."""
    if run.before is None:
        return {}
    place, grades = run.before.evaluation, ("grades", "band", band)
    found = {f"pass@{k}": Term(1, place, pointer(*grades, values.grader, f"pass@{k}", "mean")) for k in values.ends()}
    found["log-likelihood of gold, nats a token"] = Term(-1, place, pointer("likelihood", band, "all", "nll_nats"))
    found["process accuracy"] = Term(1, place, pointer(*grades, "process_accuracy", "mean"))
    for step in values.steps(run.last, ENTROPY)[:1]:
        found["entropy of the first rollout, nats a token"] = Term(1, run.last.path("metrics.csv"), f"{ENTROPY}[step={step}]")
    return found


def correlations(values: Values, band: str) -> Iterator[Correlation]:
    """Every quantity that was measured, with the gains in pass@1 and pass@n."""
    groups = compared(values)
    names = quantities(values, groups[0].runs[0], band) if groups else {}
    for name in names:
        for k in values.ends():
            key = pointer("grades", "band", band, values.grader, f"pass@{k}", "mean")
            pairs: dict[str, dict[int, Pair]] = {}
            for group in groups:
                for run in group.runs:
                    ends = [Term(1, run.last.evaluation, key), *([Term(-1, run.before.evaluation, key)] if run.before else [])]
                    known = quantities(values, run, band).get(name)
                    if known and None not in (_sum(values, [known]), _sum(values, ends)):
                        pairs.setdefault(group.label, {})[run.seed] = ([known], ends)
            if pairs:
                yield _correlation(values, name, band, k, pairs)


def _correlation(values: Values, name: str, band: str, k: int, pairs: Mapping[str, Mapping[int, Pair]]) -> Correlation:
    found = {label: {seed: _numbers(values, pair) for seed, pair in of.items()} for label, of in pairs.items()}
    every = [pair for of in found.values() for pair in of.values()]
    seeds = sorted(set.intersection(*({*of} for of in found.values())))
    all_rhos = {seed: rank_correlation(*zip(*(of[seed] for of in found.values()), strict=True)) for seed in seeds}
    rhos = {seed: rho for seed, rho in all_rhos.items() if rho is not None}
    within = mean(rhos.values()) if rhos else None
    ends: dict[str, Any] = {"low": None, "high": None}
    if within is not None and len(rhos) > 1:
        half = t_quantile(len(rhos) - 1) * stdev(rhos.values()) / len(rhos) ** 0.5
        ends = {"low": max(within - half, -1.0), "high": min(within + half, 1.0)}
    shown = {label: list(of.values()) for label, of in found.items()}
    sources = [[of[seed] for of in pairs.values()] for seed in rhos]
    overall = rank_correlation(*zip(*every, strict=True))
    return Correlation(name, band, k, shown, overall, rhos, sources, within, **ends)


def _numbers(values: Values, pair: Pair) -> tuple[float, float]:
    known, gain = (_sum(values, terms) or 0.0 for terms in pair)
    return known, gain


def _sum(values: Values, terms: Sequence[Term]) -> float | None:
    found = [values.files.value(term.path, term.key) for term in terms]
    return None if None in found else sum(term.weight * value for term, value in zip(terms, found, strict=True))
