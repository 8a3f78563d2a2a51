"""Figures in the texts of the findings that are no effect's: each computed from the effects, or from the kept files."""

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml

from recipes.findings.findings_command import HERE, measure_all
from recipes.report.exact_tests import noise_of
from recipes.report.prediction import rank_correlation

CLAIMS = yaml.safe_load((Path(__file__).parent.parent / "configs/claims.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measured():
    """Measured anew from what is kept of the runs."""
    return measure_all(HERE / "study", CLAIMS)


@pytest.fixture(scope="module")
def seeds(measured):
    """(finding, effect) -> the value of each seed."""
    return {(name, e["what"]): e["seeds"] for name, of in measured.items() for e in of["effects"] if "seeds" in e}


def reading(name):
    return " ".join(CLAIMS["findings"][name]["reading"].split())


def test_the_kept_effects_are_what_the_kept_runs_give_today(measured):
    assert json.loads(json.dumps(measured)) == json.loads((HERE / "effects.json").read_text(encoding="utf-8"))


def test_what_the_page_says_of_families(measured):
    """Oracle: Holm's first step multiplies the least p by the number of effects."""
    later = {name: claim for name, claim in CLAIMS["findings"].items() if claim.get("family")}
    planned = sum(bool(effect.get("primary")) for claim in later.values() for effect in claim["effects"])
    least = {min(e["p"]) for name in later if name in measured for e in measured[name]["effects"] if "p" in e}
    assert planned == 5
    assert least >= {0.01562}  # 1/64
    assert min(least) * planned == pytest.approx(0.08, abs=0.005)
    assert "as\n  one family of five none of 7, 8 and 10 would have a verdict (p 0.08)" in CLAIMS["about"].replace("\n", "\n  ")
    assert 5 / 2**8 < 0.05 < 5 / 2**6  # eight seeds settle it


def test_1b_maxrl_at_an_equal_gain(seeds):
    """MaxRL's share of GRPO's gain; its lead, if GRPO had lost in proportion to its gain."""
    gain, loss = (fmean(seeds["extrapolation", f"edge - base: edge pass@{k}"]) for k in (1, 16))
    maxrl, kept = (fmean(seeds["edge_again", f"edge with MaxRL - base: edge pass@{k}"]) for k in (1, 16))
    assert maxrl / gain == pytest.approx(2 / 3, abs=0.05)
    assert kept - maxrl / gain * loss == pytest.approx(0.04, abs=0.005)
    assert "gains two thirds" in reading("edge_again")
    assert "would be +0.04" in reading("edge_again")


def test_1b_chance_of_rl(seeds):
    pairs = seeds["edge_again", "edge again - edge: edge pass@16"]
    assert stdev(pairs) == pytest.approx(0.07, abs=0.005)
    assert noise_of([(gap, 0.0) for gap in pairs])[1] == pytest.approx(0.05, abs=0.005)
    assert "deviation of 0.07, that is RL's chance of 0.05 a run" in reading("edge_again")


def test_3_budgets_as_run_and_bases():
    study = json.loads((HERE / "study/compute_split.tiny.json").read_text(encoding="utf-8"))
    flops = {}
    for arm in study["arms"]:
        after = [stage for stage in arm["stages"] if stage["name"] != "pretrain"]
        files = [HERE / "study" / stage["folder"] / "compute.json" for stage in after]
        if all(file.is_file() for file in files):
            found = [json.loads(file.read_text(encoding="utf-8"))["flops"] for file in files]
            flops.setdefault(arm["values"]["RL share"], []).append(sum(found))
    assert {share: round(fmean(of) / 1e12, 1) for share, of in flops.items()} == {"0.2": 6.8, "0.8": 8.3, "1": 8.3}
    assert "as run, 6.8e12 for 0.2, 8.3e12 for the others" in reading("compute_split")


def test_3_abler_bases_have_less_of_mid_training(seeds):
    bases, gaps = (seeds["compute_split", what] for what in ("base: edge pass@1", "RL share 0.2 - 1: edge pass@1"))
    assert rank_correlation(bases, gaps) == pytest.approx(-0.55, abs=0.005)
    assert stdev(gaps) == pytest.approx(0.05, abs=0.005)
    assert "correlation with its pass@1 -0.55" in reading("compute_split")


def test_7_k_4_at_an_equal_gain(seeds):
    """The lead that stays, if k = 1 had stopped at the gain of k = 4 and lost in proportion."""
    of = {
        what: fmean(seeds["pass_at_k_edge", what]) for what in (f"k {k} - base: edge pass@{n}" for k in (1, 4) for n in (1, 16))
    }
    lead = of["k 4 - base: edge pass@16"] - of["k 1 - base: edge pass@16"]
    share = of["k 4 - base: edge pass@1"] / of["k 1 - base: edge pass@1"]
    ahead = of["k 4 - base: edge pass@16"] - share * of["k 1 - base: edge pass@16"]
    assert ahead / lead == pytest.approx(2 / 5, abs=0.05)
    assert "ahead by two fifths of the difference" in reading("pass_at_k_edge")


def test_7_what_is_open(measured):
    effects = {e["what"]: e for e in measured["pass_at_k_edge"]["effects"]}
    assert (
        effects["k 4 - base: edge pass@16"]["low"] == pytest.approx(-0.07, abs=0.005)
        and effects["k 4 - base: edge pass@16"]["high"] > 0
    )
    k_8 = effects["k 8 - base: edge pass@1"]["seeds"]
    assert (round(min(k_8), 2), round(max(k_8), 2)) == (-0.10, 0.08)
    assert effects["k 4 - base: edge pass@1"]["value"] / effects["k 1 - base: edge pass@1"]["value"] == pytest.approx(
        0.5, abs=0.1
    )


def test_8_steps_gain_less_in_every_seed_and_all_lose_a_fifth_at_the_edge(seeds):
    assert max(seeds["beyond_reach", "process - strict: hard pass@1"]) < 0
    for arm in ("strict", "process", "process then strict"):
        assert fmean(seeds["beyond_reach", f"{arm} - base: edge pass@16"]) == pytest.approx(-0.2, abs=0.05), arm
    strict, base = (fmean(seeds["beyond_reach", f"{arm}: hard pass@1"]) for arm in ("strict", "base"))
    assert 2 < strict / base < 2.5
    assert "more than doubles pass@1 there" in CLAIMS["findings"]["beyond_reach"]["answer"]


def test_9_what_was_measured_before_rl_ranks_the_models_alike():
    study = json.loads((HERE / "study/gain_prediction.tiny.json").read_text(encoding="utf-8"))
    found = {}
    for arm in study["arms"]:
        before = arm["stages"][-2]["folder"]
        seen = json.loads((HERE / "study" / before / "test/evaluation.json").read_text(encoding="utf-8"))
        edge = seen["grades"]["band"]["edge"]
        passes = [edge["executable"][f"pass@{k}"]["mean"] for k in (16, 1)]
        of = (*passes, -seen["likelihood"]["edge"]["all"]["nll_nats"], edge["process_accuracy"]["mean"])
        found.setdefault(arm["seed"], []).append(of)
    for other in (1, 2, 3):
        alike = [rank_correlation(*zip(*((of[0], of[other]) for of in models), strict=True)) for models in found.values()]
        assert len(alike) == 6 and fmean(alike) > 0.9, other
    assert "rank the seven models nearly as pass@16 does" in reading("gain_prediction")


def test_9_what_no_seed_or_every_seed_shows(seeds):
    assert max(seeds["gain_prediction", "pass@16 before RL, gain in pass@1"]) <= 0
    assert min(seeds["gain_prediction", "entropy before RL, gain in pass@1"]) > 0
    measures = {what for name, what in seeds if name == "gain_prediction" and what.endswith("before RL, gain in pass@1")}
    assert len(measures) == 5
    assert "was one of five measures" in reading("gain_prediction")
