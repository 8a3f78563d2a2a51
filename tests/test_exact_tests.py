"""Exact tests of few differences, against enumeration and simulation."""

import math
import random
from itertools import product
from statistics import fmean

import pytest

from recipes.report.exact_tests import (
    adjusted_for,
    binomial_interval,
    holm,
    interval,
    noise_of,
    p_above,
    p_below,
    p_outside,
    p_within,
    power,
    seeds_needed,
    subset_means,
)

VALUES = [0.31, -0.12, 0.08, 0.44, 0.05, 0.27]


def flipped(values, centre):
    """The same p, by all choices of signs."""
    gaps = [value - centre for value in values]
    sums = [sum(sign * gap for sign, gap in zip(signs, gaps, strict=True)) for signs in product((1, -1), repeat=len(gaps))]
    return fmean(total >= sum(gaps) - 1e-12 for total in sums)


@pytest.mark.parametrize("centre", [0.0, 0.05, 0.17, -0.2, 0.6])
def test_the_sign_flip_test_is_that_of_all_signs(centre):
    assert p_above(VALUES, centre) == pytest.approx(flipped(VALUES, centre))
    assert p_below(VALUES, centre) == pytest.approx(flipped([-value for value in VALUES], -centre))


def test_the_least_p_of_n_seeds():
    assert [p_above([0.1] * n) for n in (3, 4, 6, 8)] == [1 / 8, 1 / 16, 1 / 64, 1 / 256]
    assert p_above([0.0] * 6) == 1.0


def test_the_interval_is_of_centres_that_are_not_rejected():
    low, high = interval(VALUES)
    for centre in (low + 1e-6, high - 1e-6):
        assert min(flipped(VALUES, centre), flipped([-v for v in VALUES], -centre)) > 0.025
    for centre in (low - 1e-6, high + 1e-6):
        assert min(flipped(VALUES, centre), flipped([-v for v in VALUES], -centre)) <= 0.025
    assert interval([0.1, 0.4, 0.2]) == (0.1, 0.4)  # three seeds: of 75%
    assert len(subset_means(VALUES)) == 63
    with pytest.raises(ValueError, match="no differences"):
        interval([])


def normal(rng, n, centre=0.0):
    return [rng.gauss(centre, 0.1) for _ in range(n)]


def skewed(rng, n, centre=0.0):
    """Differences that are symmetric, but far from normal: next to zero, or large."""
    return [centre + rng.choice((-1, 1)) * (0.5 if rng.random() < 0.3 else 0.01) * (1 + rng.random()) for _ in range(n)]


@pytest.mark.parametrize("draw", [normal, skewed])
@pytest.mark.parametrize("n", [6, 8])
def test_error_rates_of_every_rule(draw, n):
    """With no effect (or one at the margin) a rule is wrong in at most 5% of studies, up to the noise of 600 of them."""
    rng, draws = random.Random(n), 600
    studies = [draw(rng, n) for _ in range(draws)]
    most = 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / draws)
    assert fmean(p_above(values) <= 0.05 for values in studies) <= most
    assert fmean(p_below(values) <= 0.05 for values in studies) <= most
    assert fmean(p_within([value + 0.1 for value in values], 0.1) <= 0.05 for values in studies) <= most
    assert fmean(p_outside([value + 0.1 for value in values], 0.1) <= 0.05 for values in studies) <= most
    assert fmean(not low <= 0 <= high for low, high in map(interval, studies)) <= most
    families = [studies[at : at + 5] for at in range(0, draws, 5)]
    wrong = fmean(min(holm([p_above(values) for values in family])) <= 0.05 for family in families)
    assert wrong <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / len(families))


def test_student_s_t_is_wrong_where_outcomes_are_few_and_far_apart():
    """Why the rules here are exact: the interval of Student's t over three seeds that are 0 or 1."""
    rng = random.Random(0)
    studies = [[float(rng.random() < 0.3) for _ in range(3)] for _ in range(1000)]

    def covers(values):
        mean = fmean(values)
        half = 4.303 * math.sqrt(sum((value - mean) ** 2 for value in values) / 2 / 3)
        return mean - half <= 0.3 <= mean + half

    assert fmean(map(covers, studies)) < 0.8


def test_the_interval_of_means_is_wrong_where_one_seed_in_twelve_differs_and_that_of_shares_is_not():
    """Why verdicts also count seeds: exact chances of k of twelve seeds that differ by 0.26, the others by nothing."""
    chances = [math.comb(12, k) * (1 / 12) ** k * (11 / 12) ** (12 - k) for k in range(13)]

    def covered(ends, true):
        return sum(chance for k, chance in enumerate(chances) if ends(k)[0] <= true <= ends(k)[1])

    assert covered(lambda k: interval([0.26] * k + [0.0] * (12 - k)), 0.26 / 12) < 0.7
    assert covered(lambda k: binomial_interval(k, 12), 1 / 12) > 0.95


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(("successes", "trials"), [(0, 8), (3, 8), (8, 8), (1, 6)])
def test_binomial_intervals_against_sums_of_chances(successes, trials):
    low, high = binomial_interval(successes, trials)

    def tail(chance, ks):
        return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in ks)

    assert low == 0.0 if successes == 0 else tail(low, range(successes, trials + 1)) == pytest.approx(0.025)
    assert high == 1.0 if successes == trials else tail(high, range(successes + 1)) == pytest.approx(0.025)
    if (successes, trials) == (3, 8):  # Clopper and Pearson's chart
        assert (low, high) == pytest.approx((0.0852, 0.7551), abs=1e-4)


def test_levels_of_bases_are_taken_out():
    levels = [0.2, 0.4, 0.6, 0.8]
    adjusted, slope = adjusted_for([0.5 - 0.5 * level for level in levels], levels)
    assert slope == pytest.approx(-0.5)
    assert adjusted == pytest.approx([0.25] * 4)
    assert adjusted_for([0.1, 0.2], [0.5, 0.5]) == ([0.1, 0.2], 0.0)


def test_two_noises_are_parted():
    rng = random.Random(1)
    bases = [rng.gauss(0, 0.2) for _ in range(4000)]
    between, within = noise_of([(base + rng.gauss(0, 0.1), base + rng.gauss(0, 0.1)) for base in bases])
    assert between == pytest.approx(0.2, abs=0.01)
    assert within == pytest.approx(0.1, abs=0.01)


def test_power_grows_with_seeds_and_effect():
    assert power(p_above, 0.0, 0.1, 6) < 0.1
    few, many = power(p_above, 0.1, 0.1, 5, draws=200), power(p_above, 0.1, 0.1, 9, draws=200)
    assert few < many
    assert seeds_needed(p_above, 0.3, 0.05) == 5  # fewer cannot reach 0.05
    assert power(p_above, 0.02, 0.2, 8, draws=100) < 0.5
    assert power(lambda values: p_within(values, 0.05), 0.0, 0.05, 4, draws=100) == 0.0  # four seeds cannot show `same`


def test_more_differences_than_can_be_enumerated_are_tested_by_a_draw_of_their_subsets():
    """Oracles: all signs of twenty, which a zero beside them leaves as they are; a normal approximation for thirty."""
    twenty = [math.sin(i) + 0.2 for i in range(20)]
    assert 0.05 < p_above(twenty) < 0.2
    assert p_above([*twenty, 0.0]) == pytest.approx(p_above(twenty), abs=0.003)
    thirty = [math.sin(i) + 0.3 for i in range(30)]
    z = fmean(thirty) / math.sqrt(sum(value**2 for value in thirty)) * 30
    assert p_above(thirty) == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), abs=0.01)
    low, high = interval(thirty)
    assert low < fmean(thirty) < high
    assert p_above(thirty, low) == pytest.approx(0.025, abs=0.003) == p_below(thirty, high)
    assert subset_means(thirty) == subset_means(thirty)
