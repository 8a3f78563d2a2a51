"""Means over problems with bootstrap confidence intervals (Efron and Tibshirani, 1993, ch. 14: bias-corrected, accelerated).

Problems are resampled, each with all of its samples, since samples of one problem are not independent.
"""

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
    many equal values occur with probability `1 - level` (for 0 of 30 problems: 0.095).

    Args:
        strata: (weight, [M, C] values); weights sum to 1. nan: the problem does not count in that column.
        level: coverage of the intervals.
        resamples: bootstrap draws; 0: intervals are nan.
        seed: of the draws.

    Returns:
        One estimate for each of C columns, nan if a stratum has no problem.
    """
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
        all_C = torch.cat([values for _, values in strata])
        room = 1 - (1 - level) ** (1 / problems)
        low_C = torch.where((all_C == 1).all(dim=0), 1 - room, low_C)
        high_C = torch.where((all_C == 0).all(dim=0), room, high_C)
    table = zip(mean_C.tolist(), error_C.tolist(), low_C.tolist(), high_C.tolist(), strict=True)
    return [Estimate(*row, problems) for row in table]


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
