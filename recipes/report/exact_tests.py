"""Tests and intervals over few seeds that assume no distribution, and the number of seeds that they need.

Differences of two arms, seed by seed, are taken to be as likely above their centre as below it, by the same amount. Then
all 2^n signs are equally likely, which gives the sign-flip test; and the true centre is equally likely to lie in each of the
2^n gaps between the means of all subsets of the differences (Hartigan, J. Am. Stat. Assoc. 64, 1969), which gives its interval.
Of more than 20 differences a fixed draw of subsets stands for all of them; tests and intervals stay exact (same paper).
Student's t takes them to be normal: with three seeds whose outcomes are 0, 1 and 0, its 95% interval covers in half to three
quarters of cases. Where few seeds differ by much and the others not at all, differences are not symmetric either: if a
twelfth of seeds differs by 0.26, the interval of twelve holds the mean in 65% of studies. There count seeds
(`binomial_interval`). On few runs: Agarwal et al. 2021 (arXiv:2108.13264); on paired differences: Miller 2024 (arXiv:2411.00640).
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from statistics import fmean

import numpy as np

FEWEST = 6  # values whose interval has 95%
ALPHA = 0.05
_MOST = 20  # differences whose subsets are enumerated
_DRAWN = 2**17 - 1  # subsets of more of them
_TIE = 1e-12


def subset_means(values: Sequence[float]) -> list[float]:
    """The means of all subsets of n values but the empty one, in order: 2^n - 1; of more than 20 values those of drawn subsets.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no differences: an interval or a test needs at least one.")
    if len(values) > _MOST:
        chosen = np.random.default_rng(0).integers(0, 2, (_DRAWN, len(values)), dtype=np.int8)
        chosen = chosen[chosen.any(axis=1)]
        return np.sort(chosen @ np.asarray(values, dtype=float) / chosen.sum(axis=1)).tolist()
    sums = [(0.0, 0)]
    for value in values:
        sums += [(total + value, count + 1) for total, count in sums]
    return sorted(total / count for total, count in sums[1:])


def p_above(values: Sequence[float], centre: float = 0.0) -> float:
    """Sign-flip test: the chance of a mean this high if differences lie symmetrically about `centre` or a lower value."""
    means = subset_means(values)
    return (1 + sum(mean <= centre + _TIE for mean in means)) / (len(means) + 1)


def p_below(values: Sequence[float], centre: float = 0.0) -> float:
    """The chance of a mean this low if differences lie symmetrically about `centre` or a higher value."""
    return p_above([-value for value in values], -centre)


def p_within(values: Sequence[float], margin: float) -> float:
    """Two one-sided tests: the chance of differences this small if their centre were `margin` or more from zero."""
    return max(p_above(values, -margin), p_below(values, margin))


def p_outside(values: Sequence[float], margin: float) -> float:
    """The chance of differences this large if their centre were within `margin` of zero."""
    return min(1.0, 2 * min(p_above(values, margin), p_below(values, -margin)))


def interval(values: Sequence[float], level: float = 1 - ALPHA) -> tuple[float, float]:
    """The interval of centres that the two-sided test does not reject; with five values or fewer, of less than `level`.

    With n values an interval from the least to the greatest covers 1 - 2^(1-n): 96.9% with six.
    """
    means = subset_means(values)
    at = max(1, math.floor((1 - level) / 2 * (len(means) + 1)))
    return means[at - 1], means[-at]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted so that the chance of any false rejection among them is bounded (Holm, Scand. J. Stat. 6, 1979)."""
    ranked = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = accumulate(((len(ranked) - rank) * p_values[at] for rank, at in enumerate(ranked)), max)
    found = dict(zip(ranked, adjusted, strict=True))
    return [min(1.0, found[at]) for at in range(len(p_values))]


def binomial_interval(successes: int, trials: int, level: float = 1 - ALPHA) -> tuple[float, float]:
    """Exact interval of a chance (Clopper and Pearson, Biometrika 26, 1934)."""
    tail = (1 - level) / 2

    def at_least(chance: float) -> float:
        return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes, trials + 1))

    def at_most(chance: float) -> float:
        return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes + 1))

    low = 0.0 if successes == 0 else _bisect(lambda chance: at_least(chance) < tail)
    high = 1.0 if successes == trials else _bisect(lambda chance: at_most(chance) >= tail)
    return low, high


def _bisect(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low


def adjusted_for(values: Sequence[float], levels: Sequence[float]) -> tuple[list[float], float]:
    """Differences as they would be with all bases at their mean level, by least squares, and the slope.

    Args:
        values: of the seeds.
        levels: of their bases, e.g. pass@1 before RL.
    """
    centre, mean = fmean(levels), fmean(values)
    spread = sum((level - centre) ** 2 for level in levels)
    covered = sum((level - centre) * (value - mean) for level, value in zip(levels, values, strict=True))
    slope = covered / spread if spread else 0.0
    return [value - slope * (level - centre) for value, level in zip(values, levels, strict=True)], slope


def noise_of(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard deviations between bases, and between RL seeds of a base, from two RL seeds on each of several bases."""
    within = fmean((a - b) ** 2 / 2 for a, b in pairs)
    means = [(a + b) / 2 for a, b in pairs]
    centre = fmean(means)
    between = sum((mean - centre) ** 2 for mean in means) / max(1, len(means) - 1) - within / 2
    return math.sqrt(max(0.0, between)), math.sqrt(within)


def power(
    test: Callable[[list[float]], float], effect: float, sd: float, seeds: int, *, alpha: float = ALPHA, draws: int = 400
) -> float:
    """The share of studies in which `test` gives a p of at most `alpha`, by simulation with normal differences.

    Args:
        test: p of a list of differences.
        effect: mean of the differences, e.g. of a pilot.
        sd: their standard deviation.
        seeds: differences of a study.
        alpha: of the test alone; with Holm's method, of its hardest step.
        draws: simulated studies.
    """
    rng = Random(0)
    return fmean(test([rng.gauss(effect, sd) for _ in range(seeds)]) <= alpha for _ in range(draws))


def seeds_needed(
    test: Callable[[list[float]], float], effect: float, sd: float, *, alpha: float = ALPHA, wanted: float = 0.8
) -> int | None:
    """The fewest seeds, from 4 to 12, whose power is at least `wanted`; None: more than 12."""
    return next((n for n in range(4, 13) if power(test, effect, sd, n, alpha=alpha) >= wanted), None)
