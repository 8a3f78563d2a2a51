"""Means over problems with bootstrap confidence intervals (Efron and Tibshirani, 1993, ch. 14: bias-corrected, accelerated).

Problems are resampled, each with all of its samples, since samples of one problem are not independent.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_NORMAL = torch.distributions.Normal(0.0, 1.0)


class Estimate(NamedTuple):
    """A mean over problems, its standard error, and a confidence interval."""

    mean: float
    standard_error: float
    low: float
    high: float
    problems: int


def estimate_means(
    strata: Sequence[tuple[float, Tensor]], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> list[Estimate]:
    """Estimate the mean of each column, sum over strata of weight times the mean of the stratum's problems.

    Values must be within 0 and 1. If all are 0 (or all 1), no resample differs; the interval then ends at the mean for which as
    many equal values occur with probability `1 - level` (for 0 of 30 problems: 0.095). If all are another value, or there is one
    problem, nothing is known of the others: the ends are nan.

    Args:
        strata: (weight, [M, C] values); weights sum to 1, and one of 0 does not count. nan: the problem does not count in
            that column.
        level: coverage of the intervals.
        resamples: bootstrap draws; 0: intervals are nan.
        seed: of the draws.

    Returns:
        One estimate for each of C columns, nan if a stratum has no problem.
    """
    strata = [(weight, values) for weight, values in strata if weight] or strata
    valid = [~values.isnan() for _, values in strata]
    if all(bool(v.all()) for v in valid):
        return _estimate(strata, level, resamples, seed)
    result = []
    for c in range(strata[0][1].shape[1]):  # columns on different problems are resampled separately
        kept = [(w, values[v[:, c], c : c + 1]) for (w, values), v in zip(strata, valid, strict=True)]
        result += _estimate(kept, level, resamples, seed)
    return result


def _estimate(strata: Sequence[tuple[float, Tensor]], level: float, resamples: int, seed: int) -> list[Estimate]:
    columns, problems = strata[0][1].shape[1], sum(len(values) for _, values in strata)
    if any(len(values) == 0 for _, values in strata):
        nan = float("nan")
        return [Estimate(nan, nan, nan, nan, problems)] * columns
    strata = [(weight, values.double().cpu()) for weight, values in strata]
    mean_C = sum(weight * values.mean(dim=0) for weight, values in strata)
    # the empirical influence function of a mean
    influence_MC = torch.cat([weight * (values - values.mean(dim=0)) / len(values) for weight, values in strata])
    corrected = torch.cat([torch.full((len(v), 1), (len(v) / max(1, len(v) - 1)) ** 0.5, dtype=torch.float64) for _, v in strata])
    error_C = (influence_MC * corrected).square().sum(dim=0).sqrt()
    low_C, high_C = torch.full_like(mean_C, torch.nan), torch.full_like(mean_C, torch.nan)
    if resamples:
        low_C, high_C = _interval(mean_C, influence_MC, _resampled(strata, resamples, seed), level)
        all_MC = torch.cat([values for _, values in strata])
        none_C, each_C = ((all_MC == bound).all(dim=0) for bound in (0, 1))
        alike_C = torch.stack([(values == values[:1]).all(dim=0) for _, values in strata]).all(dim=0)
        room = _room([weight for weight, _ in strata], [len(values) for _, values in strata], level)
        low_C = torch.where(each_C, 1 - room, torch.where(alike_C & ~none_C, torch.nan, low_C))
        high_C = torch.where(none_C, room, torch.where(alike_C & ~each_C, torch.nan, high_C))
    table = zip(mean_C.tolist(), error_C.tolist(), low_C.tolist(), high_C.tolist(), strict=True)
    return [Estimate(*row, problems) for row in table]


def _room(weights: Sequence[float], counts: Sequence[int], level: float) -> float:
    """The largest mean of chances, sum of w_i p_i, with which no problem of any stratum succeeds with probability `1 - level`.

    By Lagrange 1 - p_i = min(1, scale n_i / w_i), where the product of (1 - p_i)^n_i is `1 - level`.
    """

    def left(scale: float) -> list[float]:
        return [min(1.0, scale * n / w) for w, n in zip(weights, counts, strict=True)]

    low, high = 0.0, max(w / n for w, n in zip(weights, counts, strict=True))
    for _ in range(100):
        scale = (low + high) / 2
        chance = sum(n * math.log(one) if one else -math.inf for n, one in zip(counts, left(scale), strict=True))
        low, high = (scale, high) if chance < math.log(1 - level) else (low, scale)
    return sum(w * (1 - one) for w, one in zip(weights, left(high), strict=True))


def _resampled(strata: Sequence[tuple[float, Tensor]], resamples: int, seed: int) -> Tensor:
    """[R, C] estimates from problems drawn with replacement, stratum by stratum."""
    generator = torch.Generator().manual_seed(seed)
    total: Tensor | float = 0.0
    for weight, values in strata:
        m = len(values)
        drawn_RM = torch.randint(m, (resamples, m), generator=generator)
        counts_RM = torch.zeros(resamples, m, dtype=torch.float64).scatter_add_(
            1, drawn_RM, torch.ones((), dtype=torch.float64).expand(resamples, m)
        )
        total = total + weight * (counts_RM @ values) / m
    return total


def _interval(mean_C: Tensor, influence_MC: Tensor, drawn_RC: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Bias-corrected, accelerated quantiles of the resampled estimates."""
    resamples = len(drawn_RC)
    below_C = (drawn_RC < mean_C - 1e-12).double().mean(dim=0)
    ties_C = ((drawn_RC - mean_C).abs() <= 1e-12).double().mean(dim=0)
    bias_C = _NORMAL.icdf((below_C + ties_C / 2).clamp(1 / (2 * resamples), 1 - 1 / (2 * resamples)))
    spread_C = influence_MC.square().sum(dim=0).clamp(min=1e-30)
    acceleration_C = influence_MC.pow(3).sum(dim=0) / (6 * spread_C.pow(1.5))
    ordered_RC = drawn_RC.sort(dim=0).values
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z_C = bias_C + _NORMAL.icdf(torch.tensor(tail, dtype=torch.float64))
        share_C = _NORMAL.cdf(bias_C + z_C / (1 - acceleration_C * z_C))
        place_C = (share_C * (resamples - 1)).round().long().clamp(0, resamples - 1)
        ends.append(ordered_RC.gather(0, place_C[None]).squeeze(0))
    return ends[0], ends[1]
