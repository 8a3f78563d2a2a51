"""The page of findings: effects and what their intervals say, against sums by hand."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from finished_study import KEY, VALUES, write_study

from recipes.findings import findings_command as update
from recipes.findings.findings_page import answers, page, reading, style
from recipes.planning.recipe import load_recipe
from recipes.report.effects import verdict
from recipes.report.judging import judge
from recipes.report.sourced_numbers import Number

ROOT = Path(__file__).parent.parent
SEEDS = range(6)
EDGE = {"what": "edge - base", "arm": "edge", "against": "base", "at": KEY, "expected": "above", "margin": 0.1, "primary": True}
BASE = {"what": "base", "arm": "base", "at": KEY}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished recipe of two arms, six seeds; its report, which has tests of its own, is left out."""
    monkeypatch.setattr(update, "report", lambda root, out: out / "report.html")
    write_study(tmp_path / "study")
    start = BASE | {"what": "before edge", "arm": "edge", "before": True}
    write_claims(tmp_path, EDGE, BASE, EDGE | {"what": "lost - base", "arm": "lost", "primary": False}, start)
    return tmp_path


def write_claims(folder, *effects, **more):
    claim = {"title": "RL", "claim": "It does.", "effects": list(effects), "reading": "From {base} by {edge - base}."}
    claim |= {"question": "Does it?", "answer": "By {edge - base}."} | more
    findings = {"extrapolation": claim, "other": claim | {"title": "Other", "effects": [BASE]}}
    claims = {"about": "# Findings", "scale": "tiny", "seeds": [*SEEDS], "findings": findings}
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims))


def run(folder):
    update.main([str(folder / "study")], folder, folder / "claims.yaml")


def test_a_difference_is_taken_seed_by_seed_with_an_exact_interval(folder):
    """Oracle: with six seeds the interval is from the least to the greatest, and p of six of the same sign is 1 in 64."""
    write_claims(folder, EDGE, BASE, BASE | {"what": "bases that reach 0.2", "at_least": 0.2})
    run(folder)
    edge, base, share = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]
    pairs = [VALUES["edge"][seed] - VALUES["base"][seed] for seed in SEEDS]
    assert edge["seeds"] == pytest.approx(pairs)
    assert [edge["value"], edge["low"], edge["high"]] == pytest.approx([sum(pairs) / 6, min(pairs), max(pairs)])
    assert edge["p"] == edge["p_adjusted"] == [pytest.approx(1 / 64, abs=1e-5), 1.0]
    assert edge["verdict"] == "reproduced"
    weight, path, key = edge["terms"][1][1]
    assert (weight, key) == (-1, KEY)
    assert json.loads((folder / "study" / path).read_text())["grades"]["band"]["edge"]["executable"]["pass@16"]["mean"] == 0.3
    slope = edge["adjusted"]["slope"]  # least squares, by hand: covariance over variance
    levels, mean = [VALUES["base"][seed] for seed in SEEDS], sum(pairs) / 6
    assert slope == pytest.approx(
        sum((level - 0.2) * (gap - mean) for level, gap in zip(levels, pairs, strict=True)) / sum((v - 0.2) ** 2 for v in levels)
    )
    assert base["value"] == pytest.approx(0.2)
    assert "verdict" not in base
    assert share["value"] == pytest.approx(4 / 6)
    assert (share["low"], share["high"]) == pytest.approx((0.2228, 0.9567), abs=1e-4)  # Clopper and Pearson, 4 of 6


@pytest.mark.parametrize("shared", [True, False])
def test_the_covariate_is_the_base_not_the_stage_before_the_last_and_one_for_both_arms(folder, shared):
    """A mid-trained model between base and RL that ranks the other way does not matter; arms of two bases have no adjustment."""
    index = folder / "study/extrapolation.tiny.json"
    held = json.loads(index.read_text())
    for arm in held["arms"]:
        if arm["values"]["data"] == "edge":
            middle = folder / f"study/stages/middle{arm['seed']}"
            shutil.copytree(folder / f"study/stages/base{arm['seed']}", middle)
            found = json.loads((middle / "test/evaluation.json").read_text())
            found["grades"]["band"]["edge"]["executable"]["pass@16"]["mean"] = 1 - VALUES["base"][arm["seed"]]
            (middle / "test/evaluation.json").write_text(json.dumps(found))
            entry = arm["stages"][0] | {"name": "middle", "folder": f"stages/{middle.name}"}
            arm["stages"] = [*arm["stages"][: 1 if shared else 0], entry, arm["stages"][-1]]
    write_claims(folder, EDGE)
    run(folder)
    before = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"][0]
    index.write_text(json.dumps(held))
    run(folder)
    after = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"][0]
    assert after["seeds"] == before["seeds"]
    assert after.get("adjusted") == (before["adjusted"] if shared else None)
    said = "Were all bases at their mean level (least squares on the base's value; exploratory): edge - base ["
    assert (said in (folder / "README.md").read_text()) == shared


@pytest.mark.parametrize(
    ("larger", "said"),
    [
        (False, "of 3 with its bands and size, 2 lie outside it (edge pass@16: 2, some: 1), and are counted."),
        (True, "of 2 with its bands and size, 1 lie outside it (edge pass@16: 1), and are counted."),
    ],
)
def test_bases_outside_the_pilots_gate_are_counted_by_bound(folder, larger, said):
    """Of three bases with a record of their competence (pass@16 .1, .3, .2) one, perhaps larger, is below .15, one above .25."""
    if larger:
        (folder / "study/stages/base0/compute.json").write_text(json.dumps({"flops": 1e12, "parameters": 7}))
    claims = yaml.safe_load((folder / "claims.yaml").read_text())
    claims["gate"] = [
        {"what": "edge pass@16", "at": KEY, "within": [0.15, 0.25]},
        {"what": "some", "at": KEY, "within": [0.15, 1.0]},
    ]
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims))
    run(folder)
    assert said in (folder / "README.md").read_text()


def test_what_was_before_the_last_stage(folder):
    run(folder)
    _, base, lost, start = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]
    assert start["seeds"] == base["seeds"] == list(VALUES["base"].values())
    assert "value" not in lost


def test_a_reading_is_shown_for_the_table_that_it_was_written_for(folder, capsys):
    run(folder)
    key = re.search(r"the reading of extrapolation .* reading_of: '(\w+)'", capsys.readouterr().out)[1]
    assert "From 0.20" not in (folder / "README.md").read_text()
    write_claims(folder, EDGE, BASE, reading_of=key)  # the two effects fewer are neither primary nor named
    run(folder)
    assert "reading_of: " not in capsys.readouterr().out
    assert "From 0.20 by +0.21\\*." in (folder / "README.md").read_text()
    write_claims(folder, EDGE, BASE, EDGE | {"what": "edge again", "primary": True}, reading_of=key)
    run(folder)
    assert "reading_of: " in capsys.readouterr().out
    text = (folder / "README.md").read_text()
    assert "(The text that stood here was written for other numbers.)" in text
    assert "Does it?" not in text  # no question without its answer


def test_a_study_that_lacks_seeds_says_so(folder):
    run(folder)
    assert "Not complete" not in (folder / "README.md").read_text()
    claims = yaml.safe_load((folder / "claims.yaml").read_text())
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims | {"seeds": [*SEEDS, 6, 7]}))
    run(folder)
    assert "**Not complete: 6 of 8 planned seeds. No verdict is final" in (folder / "README.md").read_text()
    index = folder / "study/extrapolation.tiny.json"
    held = json.loads(index.read_text())
    arms = [arm for arm in held["arms"] if arm["name"] not in ("edge-seed4", "edge-seed5")]  # their bases stay
    index.write_text(json.dumps(held | {"arms": arms}))
    run(folder)
    text = (folder / "README.md").read_text()
    assert "**Not complete: 4 of 8 planned seeds." in text
    assert re.search(r"\* edge - base .* -  +\+0.30 \+0.15 \+0.32 \+0.12 ", text)  # four seeds have no interval of 95%


def test_what_is_not_measured_yet_counts_in_the_correction(folder):
    """Oracle: one p of 1/64 among four planned effects is 4/64 after Holm's method."""
    claims = yaml.safe_load((folder / "claims.yaml").read_text())
    claims["findings"]["other"]["effects"] = [EDGE] * 3
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims))
    run(folder)
    found, *_ = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]
    assert found["p_adjusted"][0] == pytest.approx(4 / 64, abs=1e-4)
    assert found["verdict"] == "not resolvable"


def test_findings_that_were_planned_apart_are_corrected_apart(folder):
    """Oracle: one p of 1/64 alone in its family stays 1/64, beside three planned effects of another."""
    claims = yaml.safe_load((folder / "claims.yaml").read_text())
    claims["findings"]["other"] |= {"effects": [EDGE] * 3, "family": "later"}
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims))
    run(folder)
    found, *_ = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]
    assert found["p_adjusted"][0] == pytest.approx(1 / 64, abs=1e-4)


def test_a_finding_may_plan_seeds_of_its_own(folder):
    write_claims(folder, EDGE, BASE, seeds=[*SEEDS, 6])
    run(folder)
    assert "**Not complete: 6 of 7 planned seeds. No verdict is final" in (folder / "README.md").read_text()


def test_the_page_shows_every_effect_and_what_the_runs_cost(folder, capsys):
    run(folder)
    key = re.search(r"reading of extrapolation .* reading_of: '(\w+)'", capsys.readouterr().out)[1]
    effects = yaml.safe_load((folder / "claims.yaml").read_text())["findings"]["extrapolation"]["effects"]
    write_claims(folder, *effects, reading_of=key)
    run(folder)
    text = (folder / "README.md").read_text()
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["* edge - base"].endswith("+0.30 +0.15 +0.32 +0.12 +0.25 +0.11  6 of 6 [0.54, 1.00]  0.016/1.000  reproduced")
    assert "> 0 (0.1)" in lines["* edge - base"]
    assert lines["lost - base"].endswith("not measured")
    assert "[0.100, 0.300]" in lines["base"]
    assert (
        "--seed 0,1,2,3,4,5 --out runs/study` at 0123456: 12 stages (0 of them also of other findings), 75 minutes; "
        "threads: 1; CPU B: base; GPU A: edge. Python 3, torch 2.13." in text
    )
    assert "All 12 stages, each run once, took 1.2 hours" in text
    assert "2.1 to 10.4 minutes each" in text
    assert "Bases whose pre-training ended by competence: 2 of 3; at the cap, and counted all the same: stages/base2." in text
    assert "From 0.20 by +0.21\\*." in text
    assert text.count("**Does it?** By +0.21\\*.") == 2  # in short, and above its picture
    assert "\n\nPrimary: 1 reproduced.\n\n" in text
    assert "## Other\n\nClaim: It does.\n\nNot measured yet." in text
    assert (folder / "figures/extrapolation-effects.png").stat().st_size > 5000


def test_what_ran_on_the_cpu_of_a_machine_with_a_gpu_ran_on_the_cpu(folder):
    for path in (folder / "study/stages").glob("edge*/environment.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"computing": {"accelerator": "cpu"}}))
    run(folder)
    made = json.loads((folder / "effects.json").read_text())["extrapolation"]["environment"]
    assert made["machines"] == {"CPU B": ["base", "edge"]}


def test_a_claim_about_what_no_evaluation_holds_is_refused_before_anything_is_written(folder):
    write_claims(folder, EDGE | {"at": KEY.replace("edge", "egde")})
    with pytest.raises(ValueError, match=r"'edge - base': .*egde.* is in no evaluation"):
        run(folder)
    assert not (folder / "effects.json").exists()


def test_a_folder_of_another_scale_is_refused(folder):
    (folder / "study/extrapolation.tiny.json").rename(folder / "study/extrapolation.small.json")
    with pytest.raises(ValueError, match="no complete arm of extrapolation, other at scale tiny"):
        run(folder)


def test_a_reading_names_only_what_was_measured():
    with pytest.raises(ValueError, match="'egde'"):
        reading("{egde}", [BASE | {"value": 0.2}])


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.01, 0.2, "above zero"), (-0.2, -0.1, "below zero"), (-0.1, 0.1, "not resolvable"), (-0.02, 0.05, "no difference")],
)
def test_what_nobody_claimed_is_read_from_its_interval(low, high, says):
    assert verdict(Number((low + high) / 2, low, high, ((), ()))) == says
    one = f"{says} (these two models)" if "zero" in says else "not resolvable (one seed)"
    assert verdict(Number((low + high) / 2, low, high, ((),))) == one
    assert verdict(Number(0.3, None, None, ((),))) == "not resolvable (one seed)"


@pytest.mark.parametrize("kind", ["against", "correlation", "slope"])
def test_what_has_a_zero_is_judged_and_shown_with_its_sign(kind):
    found = {"what": "x", kind: "y", "seeds": [0.2, 0.3], "value": 0.25, "low": 0.2, "high": 0.3}
    judge([found])
    assert found["verdict"] == "above zero"
    assert style(found, 2) == "+.2f"


def effect(expected, *seeds, margin=0.1, primary=True):
    return {"against": "base", "expected": expected, "margin": margin, "primary": primary, "seeds": list(seeds),
            "low": min(seeds), "high": max(seeds)}  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "seeds", "says"),
    [
        ("above", (0.2, 0.3, 0.1, 0.2, 0.4, 0.2), "reproduced"),
        ("above", (-0.2, 0.3, 0.1, 0.2, 0.4, 0.2), "not resolvable"),
        ("above", (0.02, 0.03, -0.01, 0.02, -0.04, 0.02), "not reproduced"),
        ("above", (0.02, 0.03, 0.01, 0.02, 0.04, 0.02), "reproduced, but small"),
        ("below", (-0.2, -0.3, -0.1, -0.2, -0.4, -0.2), "reproduced"),
        ("below", (0.2, 0.3, 0.1, 0.2, 0.4, 0.2), "not reproduced"),
        ("same", (0.05, -0.05, 0.02, 0.01, -0.02, 0.0), "reproduced"),
        ("same", (0.2, 0.3, 0.15, 0.2, 0.4, 0.2), "not reproduced"),
        ("same", (0.2, -0.3, 0.15, 0.2, -0.4, 0.2), "not resolvable"),
    ],
)
def test_the_verdict_on_a_primary_effect(expected, seeds, says):
    found = effect(expected, *seeds)
    judge([found])
    assert found["verdict"] == says


@pytest.mark.parametrize(("expected", "count"), [("above", 2), ("below", 1), ("same", 3)])
def test_seeds_beyond_the_margin_are_counted_on_the_side_of_the_claim(expected, count):
    """Clopper and Pearson's interval of two of six: 0.043 to 0.777."""
    found = effect(expected, 0.1, 0.3, 0.05, -0.2, 0.0, 0.0)
    judge([found])
    assert found["beyond"][0] == count
    if count == 2:
        assert found["beyond"][1:] == pytest.approx([0.0433, 0.7772], abs=1e-4)


@pytest.mark.parametrize(("value", "says"), [(1.0, "above zero"), (-0.5, "below zero"), (0.0, "open")])
def test_seeds_that_are_equal_say_what_side_they_are_on(value, says):
    found = effect("above", *[value] * 6, primary=False) | {"low": None, "high": None}
    judge([found])
    assert found["verdict"] == says


def test_primary_effects_share_their_chance_of_error():
    """Oracle: one p of 1/64 is below 0.05, four of them are above it after Holm's method (4/64); others do not count."""
    every = [effect("above", 0.2, 0.3, 0.1, 0.2, 0.4, 0.2) for _ in range(4)]
    others = [effect("above", 0.2, 0.3, -0.1, 0.2, 0.4, 0.2, primary=False), effect("above", 0.2, 0.3, primary=False)]
    judge(every + others)
    assert {found["verdict"] for found in every} == {"not resolvable"}
    assert [found["verdict"] for found in others] == ["open", "above zero"]
    assert all("p" not in found for found in others)
    three = every[:3]
    judge(three)
    assert {found["verdict"] for found in three} == {"reproduced"}


def test_the_page_in_the_tree_is_that_of_its_claims_and_effects():
    here = ROOT / "docs/findings"
    claims, measured = yaml.safe_load((ROOT / "configs/claims.yaml").read_text()), json.loads((here / "effects.json").read_text())
    assert page(claims, measured) == (here / "README.md").read_text()
    assert "\n".join(answers(claims, measured)) == update.MARKED.search((ROOT / "README.md").read_text())[0]
    reports = {here / "study/report.html", *here.glob("study/figures/*")}  # of `make findings`; not in the tree
    kept = {path for path in here.rglob("*") if path.is_file()} - reports
    assert sum(path.stat().st_size for path in kept) < 4_500_000
    assert not set(re.findall(r"\]\(([^)#]+)\)", page(claims, measured))) - {str(p.relative_to(here)) for p in here.rglob("*")}


def test_claims_speak_of_arms_that_their_recipes_have():
    claims = yaml.safe_load((ROOT / "configs/claims.yaml").read_text())["findings"]
    for name, claim in claims.items():
        axes = load_recipe(ROOT / f"configs/recipe/{name}.yaml").axes
        labels = [""]
        for values in axes.values():
            labels = [f"{label}-{value}".removeprefix("-") for label in labels for value in values]
        assert {effect[side] for effect in claim["effects"] for side in ("arm", "against") if side in effect} <= set(labels), name
        kinds = [[kind in effect for kind in ("arm", "correlation", "slope")] for effect in claim["effects"]]
        assert all(sum(of) == 1 for of in kinds), name
        primary = [effect for effect in claim["effects"] if effect.get("primary")]
        assert primary, name
        assert all(effect["expected"] in ("above", "below", "same") and 0 < effect["margin"] < 1 for effect in primary)
