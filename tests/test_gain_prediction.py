"""What before RL predicts its gain: rank correlations are those by hand, over the runs that may be compared."""

import pytest
from ladder_study import write_bases

from recipes.report.effects import measure
from recipes.report.figures import gain_prediction
from recipes.report.prediction import compared, correlations, rank_correlation
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies
from recipes.report.study_values import Values
from recipes.report.tables import prediction

# arm -> for each seed: pass@1, nats, process accuracy and entropy before RL, pass@1 after; gains 0.1, 0.2, 0.4 and 0.1, 0.3, 0.2
BEFORE = {
    "none": [(0.1, 2.0, 0.5, 0.7, 0.2), (0.2, 2.5, 0.5, 0.7, 0.3)],
    "short": [(0.3, 1.0, 0.5, 0.9, 0.5), (0.3, 1.5, 0.5, 0.6, 0.6)],
    "long": [(0.2, 0.5, 0.5, 0.8, 0.6), (0.4, 1.0, 0.5, 0.5, 0.6)],
}


def values_of(folder, before=BEFORE, **how):
    write_bases(folder, before, **how)
    (study,) = find_studies(folder)
    return Values(study, Files(folder))


@pytest.mark.parametrize(
    ("xs", "ys", "rho"),
    [
        ([1, 2, 3, 4, 5], [10, 20, 40, 30, 50], 0.9),  # 1 - 6 (1 + 1) / (5 24)
        ([1, 2, 3, 4], [8, 4, 2, 1], -1.0),
        ([1, 1, 2, 3], [1, 2, 3, 4], 0.9486833),  # ranks 1.5, 1.5, 3, 4: covariance 4.5, squares 4.5 and 5
        ([1, 1, 1], [1, 2, 3], None),
        ([1, 2], [1, 2], None),
    ],
)
def test_a_rank_correlation_is_the_one_by_hand(xs, ys, rho):
    found = rank_correlation(xs, ys)
    assert found is None if rho is None else found == pytest.approx(rho)


def test_quantities_before_rl_are_correlated_within_seeds_and_over_all_runs(tmp_path):
    """Seed 0 has gains .1, .2, .4 and seed 1 gains .1, .3, .2; three ranks: rho is 1 - sum of squared differences / 4.

    Pass@1 of all runs: ranks 1, 2.5, 4.5, 4.5, 2.5, 6 and 1.5, 1.5, 3.5, 5, 6, 3.5; covariance 6, both squares 16.5.
    """
    found = {of.quantity: of for of in correlations(values_of(tmp_path), "edge")}
    assert found["pass@1"].overall == pytest.approx(6 / 16.5)
    assert found["pass@1"].within == pytest.approx((0.5 + 0.5) / 2)
    assert found["log-likelihood of gold, nats a token"].within == pytest.approx((1 + 0.5) / 2)
    assert found["entropy of the first rollout, nats a token"].within == pytest.approx((0.5 - 0.5) / 2)
    assert found["process accuracy"].within is None  # never varies
    likely = found["log-likelihood of gold, nats a token"]
    assert (likely.low, likely.high) == (-1.0, 1.0)  # two seeds, t of 12.7, cut to what is possible
    assert [pair for pairs in likely.values.values() for pair in pairs] == [
        pytest.approx(pair) for pair in [(-2, 0.1), (-2.5, 0.1), (-1, 0.2), (-1.5, 0.3), (-0.5, 0.4), (-1, 0.2)]
    ]


@pytest.mark.parametrize(
    "how", [{"before": dict(list(BEFORE.items())[:2])}, {"last_step": 7}], ids=["two models", "RL of two lengths"]
)
def test_runs_that_cannot_be_compared_have_no_correlations(tmp_path, how):
    values = values_of(tmp_path, **how)
    assert compared(values) == []
    assert gain_prediction(values) is None
    assert prediction(values).rows == []


def test_the_figure_has_an_arm_at_each_mark_and_the_table_a_row_for_each_quantity(tmp_path):
    values = values_of(tmp_path)
    panels = {panel.x: panel for panel in gain_prediction(values).panels}
    (line,) = panels["before RL: log-likelihood of gold, nats a token"].lines
    assert [x for x, _ in line.points] == pytest.approx([-2.25, -1.25, -0.75])
    assert [number.value for _, number in line.points] == pytest.approx([0.1, 0.25, 0.3])
    rows = {row[0]: row[1:] for row in prediction(values).rows}
    assert rows["pass@1"] == ["edge", "pass@1", "3", "6", "+0.36", "+0.50", "+0.50, +0.50"]
    assert rows["process accuracy"][4:] == ["", "", ""]


def claimed(folder, before=BEFORE, **correlation):
    values = values_of(folder, before)
    effect = {"what": "rho", "correlation": {"band": "edge", "gain": 1} | correlation, "primary": True}
    (found,) = measure(values.study, values.files, {"effects": [effect]})
    return found


def test_a_claim_about_a_correlation_has_it_for_each_seed_with_its_sources(tmp_path):
    """Seed 0: -2, -1, -0.5 nats and gains .1, .2, .4; seed 1: -2.5, -1.5, -1 and .1, .3, .2."""
    found = claimed(tmp_path, of="log-likelihood of gold, nats a token")
    assert found["seeds"] == pytest.approx([1.0, 0.5])
    assert found["value"] == pytest.approx(0.75)
    assert (found["low"], found["high"]) == (None, None)  # two seeds have no exact interval of 95%
    (known,), (after, start) = found["terms"][0][1]
    assert known == [-1, "stages/baseshort0/test/evaluation.json", "/likelihood/edge/all/nll_nats"]
    assert [after[:2], start[:2]] == [
        [1, "stages/rlshort0/test/evaluation.json"], [-1, "stages/baseshort0/test/evaluation.json"],
    ]  # fmt: skip


def test_a_seed_that_lacks_an_arm_has_no_correlation(tmp_path):
    found = claimed(tmp_path, BEFORE | {"long": BEFORE["long"][:1]}, of="log-likelihood of gold, nats a token")
    assert found["seeds"] == [1.0]


def test_a_claim_about_what_is_not_measured_before_rl_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'pass@3' is not measured before RL; choose from pass@1, log-likelihood"):
        claimed(tmp_path, of="pass@3")


def test_a_claim_about_runs_that_cannot_be_compared_is_not_measured(tmp_path):
    assert "seeds" not in claimed(tmp_path, dict(list(BEFORE.items())[:2]), of="pass@1")
