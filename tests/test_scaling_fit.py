"""Gain of RL against its FLOPs: fits are those that a hand computes, and only of arms that make a ladder."""

from dataclasses import replace

import pytest
from ladder_study import write_ladder

from recipes.report.effects import measure
from recipes.report.figures import gain_against_flops
from recipes.report.scaling import fits, ladders
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies
from recipes.report.study_values import Values
from recipes.report.tables import scaling

FLOPS = {"1M": [1e10, 1e11, 1e12], "4M": [4e10, 4e11, 4e12]}
SIZES = {"1M": 1e6, "4M": 1e8}


def values_of(folder, gains, flops=FLOPS):
    write_ladder(folder, gains, flops, SIZES)
    (study,) = find_studies(folder)
    return Values(study, Files(folder))


def test_a_fit_of_three_arms_is_the_one_by_hand(tmp_path):
    """Log10 of FLOPs is -1, 0, 1 about its mean: the slope is half of last less first, the mean gain stands at the middle arm."""
    values = values_of(tmp_path, {"1M": [0.1, 0.2, 0.6]})
    (fit,) = fits(values, "edge", 1)
    gain, slope = fit.terms
    assert (gain.value, slope.value) == pytest.approx((0.3 + 0.01, 0.25))  # the second seed has 0.02 more everywhere
    assert [number.value for number in fit.fitted] == pytest.approx([0.06, 0.31, 0.56])
    assert fit.formula == "+0.310 + 0.250 log10(C / 1.0e+11)"
    assert (slope.low, slope.high) == (None, None)  # both seeds have the same, which says nothing of a third
    for number in (gain, slope):
        seeds = [sum(term.weight * values.files.value(term.path, term.key) for term in run) for run in number.runs]
        assert sum(seeds) / 2 == pytest.approx(number.value)


def test_a_fit_over_all_arms_tells_compute_from_size(tmp_path):
    """Gains made as 0.1 + 0.05 per tenfold FLOPs + 0.03 per tenfold parameters."""
    gains = {"1M": [0.1, 0.15, 0.2], "4M": [0.1 + 0.05 * 0.60206 + 0.06 + 0.05 * place for place in range(3)]}
    *each, both = fits(values_of(tmp_path, gains), "edge", 1)
    assert [fit.label for fit in each] == ["1M", "4M"]
    assert [fit.terms[1].value for fit in each] == pytest.approx([0.05, 0.05])
    assert [term.value for term in both.terms[1:]] == pytest.approx([0.05, 0.03], abs=1e-5)


@pytest.mark.parametrize(("arms", "slopes"), [("1M", [0.25, 0.25]), ("2M", None)])
def test_a_claim_about_a_slope_has_it_for_each_seed(tmp_path, arms, slopes):
    values = values_of(tmp_path, {"1M": [0.1, 0.2, 0.6]})
    effect = {"what": "slope", "slope": {"arms": arms, "band": "edge", "gain": 1}}
    (found,) = measure(values.study, values.files, {"effects": [effect]})
    assert found.get("seeds") == (slopes and pytest.approx(slopes))


def test_bases_that_no_axis_names_have_a_fit_each(tmp_path):
    values = values_of(tmp_path, {"1M": [0.1, 0.2, 0.6], "4M": [0.1, 0.2, 0.3]})
    one_axis = {"arm": ("a", "b", "c", "d", "e", "f")}
    groups = tuple(
        replace(group, label=name, values={"arm": name}) for group, name in zip(values.study.groups, one_axis["arm"], strict=True)
    )
    study = replace(values.study, groups=groups, axes=one_axis)
    found = fits(Values(study, values.files), "edge", 1)
    assert [fit.label for fit in found] == ["arm, a to c", "arm, d to f", "all"]
    assert [fit.terms[1].value for fit in found[:2]] == pytest.approx([0.25, 0.1])


@pytest.mark.parametrize("flops", [[1e10, 2e10, 3e10], [1e10, 1e12]], ids=["too close", "too few"])
def test_arms_that_are_no_ladder_have_no_fit(tmp_path, flops):
    values = values_of(tmp_path, {"1M": [0.1, 0.2, 0.3][: len(flops)]}, {"1M": flops})
    assert ladders(values) == {}
    assert gain_against_flops(values) is None
    assert scaling(values).rows == []


def test_the_figure_has_the_gains_and_the_table_the_slope(tmp_path):
    values = values_of(tmp_path, {"1M": [0.1, 0.2, 0.6]})
    (panel,) = gain_against_flops(values).panels
    measured, fitted = panel.lines
    assert [x for x, _ in measured.points] == pytest.approx([10, 11, 12])
    assert [number.value for _, number in measured.points] == pytest.approx([0.11, 0.21, 0.61])
    assert [number.value for _, number in fitted.points] == pytest.approx([0.06, 0.31, 0.56])
    (row,) = scaling(values).rows
    assert [row[0], row[1], row[5].text] == ["1M", "3", "0.25"]
