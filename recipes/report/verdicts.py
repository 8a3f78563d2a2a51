"""The verdict on a study's question: effects with intervals and seeds, and one sentence that reads them.

With claims (configs/claims.yaml, written before the results) the effects are the primary ones, in their order, judged by
exact tests (`judging.py`). Without, each later arm is compared with the first, where arms differ most, by intervals of
Student's t; with one seed, by intervals over problems (`paired_problems.py`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from recipes.report.effects import ALIKE, effect_number, measure, verdict
from recipes.report.judging import judge
from recipes.report.sourced_numbers import Number, pointer
from recipes.report.study_values import GRADER, Values

WORDS = {
    "reproduced": "{} reproduced", "reproduced, but small": "{} reproduced but small", "not reproduced": "{} not reproduced",
    "above zero": "{} above zero", "below zero": "{} below zero", "no difference": "{} without a difference",
    "zero for every seed": "{} zero for every seed",
}  # fmt: skip
UNRESOLVED = "not resolvable"


@dataclass(frozen=True)
class Effect:
    """A difference of two arms.

    what:    arms and measure.
    number:  mean over seeds, interval, sources.
    seeds:   each seed's value.
    verdict: as `recipes.report.judging.said` or `recipes.report.effects.verdict` names it.
    """

    what: str
    number: Number
    seeds: tuple[float, ...]
    verdict: str


@dataclass(frozen=True)
class Verdict:
    """What a study says.

    sentence: reads the numbers.
    effects:  the one that the sentence names first.
    """

    sentence: str
    effects: tuple[Effect, ...]


def judge_study(values: Values, claims: Mapping[str, Any] | None = None) -> Verdict:
    """The verdict of a study.

    Args:
        values: of the study.
        claims: its `effects`, as configs/claims.yaml has them, and `planned`, the number of primary effects of its family.
    """
    claimed = _claimed(values, claims) if claims else ()
    effects = claimed or tuple(effect for of in _compared(values) if (effect := _effect(values, of)) is not None)
    if not effects:
        one = len(values.study.groups) == 1
        return Verdict(f"{'One arm alone' if one else 'No band in common'}: there is nothing to compare.", ())
    return Verdict(sentence_of(effects, claimed=bool(claimed)), effects)


def _claimed(values: Values, claims: Mapping[str, Any]) -> tuple[Effect, ...]:
    """The primary differences whose arms are there, judged together; correlations and slopes have tables of their own."""
    primary = {"effects": [effect for effect in claims.get("effects", ()) if effect.get("primary") and "against" in effect]}
    measured = [effect for effect in measure(values.study, values.files, primary) if "seeds" in effect]
    judge(measured, claims.get("planned", 0))
    numbers = [(e, number) for e in measured if (number := effect_number(values, e)) is not None]
    return tuple(Effect(e["what"], number, tuple(e["seeds"]), e["verdict"]) for e, number in numbers)


def _compared(values: Values) -> list[dict[str, Any]]:
    """Effects of every arm against the first, in the band whose pass@1 or pass@n differs most between arms."""
    groups = values.study.groups
    found = {(band, k): _spread(values, band, k) for band in values.bands() for k in values.ends()}
    spreads = {key: spread for key, spread in found.items() if spread is not None}
    if len(groups) < 2 or not spreads:
        return []
    band = max(spreads, key=lambda key: spreads[key])[0]
    return [
        {"what": f"{group.label} - {groups[0].label}: {band} pass@{k}", "arm": group.label, "against": groups[0].label,
         "at": pointer("grades", "band", band, GRADER, f"pass@{k}", "mean")}
        for k in values.ends() for group in groups[1:]
    ]  # fmt: skip


def _spread(values: Values, band: str, k: int) -> float | None:
    """Between the arms that have the band; None: the first has not, or it alone."""
    first, *others = (values.grade(group, "band", band, f"pass@{k}") for group in values.study.groups)
    known = [number.value for number in (first, *others) if number is not None]
    return max(known) - min(known) if first is not None and len(known) > 1 else None


def _effect(values: Values, wanted: dict[str, Any]) -> Effect | None:
    number = effect_number(values, wanted)
    if number is None:
        return None
    seeds = tuple(values.files.by_run(number))
    return Effect(wanted["what"], number, seeds, verdict(number))


def sentence_of(effects: tuple[Effect, ...], *, claimed: bool) -> str:
    """`pass@1 ...: +0.40 [0.20, 0.60], above zero with 3 of 3 seeds; of 5 claims 3 are reproduced, 2 not resolvable.`"""
    first, counts = effects[0], Counter(effect.verdict.partition(" (")[0] for effect in effects)
    sign = 1 if mean(first.seeds) >= 0 else -1
    agreeing = sum(sign * seed > 0 for seed in first.seeds)
    side = "above" if sign > 0 else "below"
    interval = "" if first.number.low is None else f" [{first.number.low:+.2f}, {first.number.high:+.2f}]"
    seeds = f"{side} zero with {agreeing} of {len(first.seeds)} seeds" if len(first.seeds) > 1 else "with one seed"
    if interval and len(first.seeds) == 1:
        seeds = "over problems, with one seed"
    if abs(first.number.value) <= ALIKE / 10:
        seeds = f"next to zero with {len(first.seeds)} seeds" if len(first.seeds) > 1 else "next to zero with one seed"
    parts = [words.format(counts[name]) for name, words in WORDS.items() if counts[name]]
    parts += [f"{counts[UNRESOLVED]} {UNRESOLVED}"] if counts[UNRESOLVED] else []
    what = "claims" if claimed else "differences"
    others = f"; of {len(effects)} {what}, {', '.join(parts)}" if len(effects) > 1 else ""
    return f"{first.what} is {first.number.value:+.2f}{interval}, {seeds}{others}."
