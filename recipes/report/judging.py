"""Verdicts on claims that were written before their runs: exact tests, corrected for the number of claims.

A primary effect says what is claimed, `above` or `below` zero or the `same`, and the `margin`, the least difference that would
matter (half of the paper's, where it says one). Over all primary effects of a family of findings,

- *reproduced*: the test of the opposite is rejected: that the centre of the differences is on the other side of zero or at it
  (`above`, `below`), or at least the margin from zero (`same`).
- *not reproduced*: the test of the claim is rejected: that the centre is at least the margin on the claimed side, or within the
  margin.
- *reproduced, but small*: both; the difference is there and does not matter.
- *not resolvable*: neither.

p-values are those of sign flips (`recipes.report.exact_tests`), adjusted by Holm's method, once for each kind of rejection: the
chance of a wrong one in a family is at most 0.05 of each kind, 0.1 of both. They take differences to be symmetric about their
centre, and say little of what few seeds do and most do not do at all; so each effect also counts the seeds whose difference is
at least the margin, with an exact binomial interval of their share.
Everything else is exploratory: its interval has no correction, and what it says is not a verdict.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from recipes.report.exact_tests import ALPHA, FEWEST, binomial_interval, holm, p_above, p_below, p_outside, p_within

Test = Callable[[list[float], float], float]
# expected -> p of the opposite of the claim, p of the claim; each of the differences and the margin
TESTS: Mapping[str, tuple[Test, Test]] = {
    "above": (lambda values, margin: p_above(values), p_below),
    "below": (lambda values, margin: p_below(values), lambda values, margin: p_above(values, -margin)),
    "same": (p_within, p_outside),
}


def is_compared(effect: Mapping[str, Any]) -> bool:
    """Whether zero means something for an effect: a difference of arms, a correlation or a slope, not the value of an arm."""
    return any(kind in effect for kind in ("against", "correlation", "slope"))


def judge(effects: Iterable[dict[str, Any]], planned: int = 0) -> None:
    """Give every measured difference (correlation, slope) its p-values and verdict.

    Args:
        effects: of a family, with `seeds`, their differences; a primary one with `primary`, `expected` and `margin`.
        planned: primary effects of the family; those that are not measured yet count in the correction, with a p of 1.
    """
    differences = [effect for effect in effects if is_compared(effect) and "seeds" in effect]
    primary = [effect for effect in differences if effect.get("primary")]
    found = [[test(effect["seeds"], effect["margin"]) for test in TESTS[effect["expected"]]] for effect in primary]
    missing = [1.0] * (planned - len(primary))
    adjusted = [holm([p[kind] for p in found] + missing) for kind in (0, 1)]
    for at, effect in enumerate(primary):
        p_for, p_against = (round(of[at], 5) for of in adjusted)
        effect |= {"p": [round(p, 5) for p in found[at]], "p_adjusted": [p_for, p_against]}
        effect["verdict"] = said(p_for <= ALPHA, p_against <= ALPHA)
        effect["beyond"] = beyond(effect["seeds"], effect["expected"], effect["margin"])
    for effect in differences:
        if not effect.get("primary"):
            low, high = effect["low"], effect["high"]
            if low is None and len(effect["seeds"]) >= FEWEST:  # all are equal
                low, high = min(effect["seeds"]), max(effect["seeds"])
            above, below = (low or 0) > 0, (high or 0) < 0
            effect["verdict"] = "above zero" if above else "below zero" if below else "open"


def beyond(seeds: Sequence[float], expected: str, margin: float) -> list[float]:
    """The number of seeds whose difference is at least the margin, on the claimed side if there is one; the share's interval."""
    on_side = {"above": seeds, "below": [-seed for seed in seeds], "same": [abs(seed) for seed in seeds]}[expected]
    count = sum(seed >= margin for seed in on_side)
    return [count, *(round(end, 5) for end in binomial_interval(count, len(seeds)))]


def said(held: bool, refuted: bool) -> str:
    """The verdict, by which of the two tests rejected."""
    if held and refuted:
        return "reproduced, but small"
    return "reproduced" if held else "not reproduced" if refuted else "not resolvable"


def families(findings: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The names of the findings of configs/claims.yaml, by family: those without one are one, too."""
    found: dict[str, list[str]] = {}
    for name, claim in findings.items():
        found.setdefault(claim.get("family", ""), []).append(name)
    return list(found.values())


def primaries(claims: Iterable[Mapping[str, Any]]) -> int:
    """The number of primary effects of findings."""
    return sum(bool(effect.get("primary")) for claim in claims for effect in claim["effects"])
