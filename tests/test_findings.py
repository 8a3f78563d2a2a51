"""The page of findings: effects and what their intervals say, against sums by hand."""

import json
import re
from math import sqrt
from pathlib import Path

import pytest
import yaml
from finished_study import KEY, VALUES, write_study

from recipes.findings import findings_command as update
from recipes.findings.findings_page import page, reading
from recipes.planning.recipe import load_recipe
from recipes.report.effects import verdict
from recipes.report.sourced_numbers import Number

ROOT = Path(__file__).parent.parent
EDGE = {"what": "edge - base", "arm": "edge", "against": "base", "at": KEY, "expected": "above"}
BASE = {"what": "base", "arm": "base", "at": KEY}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished recipe of two arms, three seeds; its report, which has tests of its own, is left out."""
    monkeypatch.setattr(update, "report", lambda root, out: out / "report.html")
    write_study(tmp_path / "study")
    start = BASE | {"what": "before edge", "arm": "edge", "before": True}
    write_claims(tmp_path, EDGE, BASE, EDGE | {"what": "lost - base", "arm": "lost"}, start)
    return tmp_path


def write_claims(folder, *effects, planned=(0, 1, 2), **more):
    claim = {"title": "RL", "claim": "It does.", "effects": list(effects), "reading": "From {base} by {edge - base}."} | more
    findings = {"extrapolation": claim, "other": claim | {"title": "Other"}}
    claims = {"about": "# Findings", "planned": list(planned), "findings": findings}
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims))


def run(folder):
    update.main([str(folder / "study")], folder, folder / "claims.yaml")


def test_a_difference_is_taken_seed_by_seed_with_students_interval(folder):
    run(folder)
    edge, base, lost, start = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]
    pairs = [VALUES["edge"][seed] - VALUES["base"][seed] for seed in range(3)]
    assert edge["seeds"] == pytest.approx(pairs)
    middle = sum(pairs) / 3
    half = 4.30265 * sqrt(sum((pair - middle) ** 2 for pair in pairs) / 2 / 3)  # 97.5% of Student's t, 2 degrees of freedom
    assert [edge["value"], edge["low"], edge["high"]] == pytest.approx([middle, middle - half, middle + half], abs=1e-4)
    weight, path, key = edge["terms"][1][1]
    assert (weight, key) == (-1, KEY)
    assert json.loads((folder / "study" / path).read_text())["grades"]["band"]["edge"]["executable"]["pass@16"]["mean"] == 0.3
    assert base["value"] == pytest.approx(0.2)
    assert start["seeds"] == base["seeds"] == [0.1, 0.3, 0.2]
    assert "verdict" not in base
    assert "value" not in lost


def test_a_reading_is_shown_for_the_table_that_it_was_written_for(folder, capsys):
    run(folder)
    key = re.search(r"the reading of extrapolation .* reading_of: '(\w+)'", capsys.readouterr().out)[1]
    assert "From 0.20" not in (folder / "README.md").read_text()
    write_claims(folder, EDGE, BASE, reading_of=key)
    run(folder)
    assert "reading_of: " in capsys.readouterr().out  # two effects fewer
    assert "(The text that stood here was written for other numbers.)" in (folder / "README.md").read_text()


def test_what_seeds_that_were_added_later_change_is_said(folder):
    """Oracle: with seeds 0 and 1 the differences are 0.3 and 0.15; ± 12.706 x 0.106 / sqrt(2) takes zero in."""
    write_claims(folder, EDGE, BASE, planned=(0, 1))
    run(folder)
    effect = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"][0]
    assert effect["verdict"] == "reproduced"
    assert effect["planned"]["verdict"] == "not resolvable"
    assert effect["planned"]["value"] == pytest.approx(0.225)
    assert "reproduced (seeds 0,1: not resolvable)" in (folder / "README.md").read_text()


def test_arms_that_planned_seeds_left_out_say_nothing_of_them(folder):
    write_claims(folder, EDGE, planned=(0, 3))
    index = folder / "study/extrapolation.tiny.json"
    kept = json.loads(index.read_text())
    kept["arms"] = [arm for arm in kept["arms"] if not arm["name"].startswith("edge") or arm["seed"] > 0]
    index.write_text(json.dumps(kept))
    run(folder)
    (effect,) = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]
    assert len(effect["seeds"]) == 2
    assert "planned" not in effect


def test_the_page_shows_every_effect_and_what_the_runs_cost(folder, capsys):
    run(folder)
    key = re.search(r"reading of extrapolation .* reading_of: '(\w+)'", capsys.readouterr().out)[1]
    effects = yaml.safe_load((folder / "claims.yaml").read_text())["findings"]["extrapolation"]["effects"]
    write_claims(folder, *effects, reading_of=key)
    run(folder)
    text = (folder / "README.md").read_text()
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["edge - base"].endswith("+0.30 +0.15 +0.32  reproduced")
    assert lines["lost - base"].endswith("not measured")
    assert "[-0.048, 0.448]" not in lines["base"]  # a share is within 0 and 1
    assert "[0.000, 0.448]" in lines["base"]
    assert (
        "--seed 0,1,2 --out runs/study` at 0123456: 6 stages (0 of them also of other findings), 22 minutes; threads: 1." in text
    )
    assert "All 6 stages, each run once, took 0.4 hours" in text
    assert "2.1 to 5.4 minutes each" in text
    assert "From 0.20 by +0.26." in text
    assert "\n\n1 reproduced.\n\n" in text
    assert "## Other\n\nClaim: It does.\n\nNot measured yet." in text
    assert (folder / "figures/extrapolation-effects.png").stat().st_size > 5000


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
    ("low", "high", "expected", "says"),
    [
        (0.01, 0.2, "above", "reproduced"), (-0.2, -0.01, "above", "not reproduced"), (-0.1, 0.2, "above", "not resolvable"),
        (-0.02, 0.01, "above", "not reproduced"), (-0.03, 0.01, "above", "not resolvable"),
        (0.001, 0.01, "above", "not reproduced"), (0.001, 0.03, "above", "reproduced"),
        (-0.2, -0.01, "below", "reproduced"), (0.01, 0.2, "below", "not reproduced"), (-0.01, 0.02, "below", "not reproduced"),
        (-0.04, 0.03, "same", "reproduced"), (0.01, 0.2, "same", "not reproduced"), (-0.1, 0.2, "same", "not resolvable"),
        (0.01, 0.04, "same", "reproduced"),
        (0.01, 0.2, "open", "above zero"), (-0.2, -0.1, "open", "below zero"), (-0.1, 0.1, "open", "not resolvable"),
        (-0.02, 0.05, "open", "no difference"),
    ],
)  # fmt: skip
def test_a_verdict_follows_from_the_interval(low, high, expected, says):
    number = Number((low + high) / 2, low, high, ((), ()))
    assert verdict(number, expected) == says
    ends = "not resolvable (at the end of the range)" if expected != "open" else says
    assert verdict(number, expected, at_end=True) == ends


def test_one_seed_resolves_nothing():
    assert verdict(Number(0.3, 0.2, 0.4, ((),)), "above") == "not resolvable (one seed)"


@pytest.mark.parametrize(("shift", "at_end"), [(0.0, False), (-0.095, False), (-0.299, False), (-0.345, True)])
def test_arms_next_to_zero_show_nothing(folder, shift, at_end):
    """With the values of all arms next to 0 a difference is neither found nor ruled out; the largest was 0.52."""
    for path in (folder / "study/stages").glob("*/test/evaluation.json"):
        found = json.loads(path.read_text())
        score = found["grades"]["band"]["edge"]["executable"]["pass@16"]
        score["mean"] = max(0.0, 0.75 * score["mean"] + shift)
        path.write_text(json.dumps(found))
    run(folder)
    effect = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"][0]
    assert (effect["verdict"] == "not resolvable (at the end of the range)") == at_end


def test_the_page_in_the_tree_is_that_of_its_claims_and_effects():
    here = ROOT / "docs/findings"
    claims, measured = yaml.safe_load((ROOT / "configs/claims.yaml").read_text()), json.loads((here / "effects.json").read_text())
    assert page(claims, measured) == (here / "README.md").read_text()
    assert sum(path.stat().st_size for path in here.rglob("*")) < 1_000_000
    assert not set(re.findall(r"\]\(([^)#]+)\)", page(claims, measured))) - {str(p.relative_to(here)) for p in here.rglob("*")}


def test_claims_speak_of_arms_that_their_recipes_have():
    claims = yaml.safe_load((ROOT / "configs/claims.yaml").read_text())["findings"]
    for name, claim in claims.items():
        axes = load_recipe(ROOT / f"configs/recipe/{name}.yaml").axes
        labels = [""]
        for values in axes.values():
            labels = [f"{label}-{value}".removeprefix("-") for label in labels for value in values]
        assert {effect[side] for effect in claim["effects"] for side in ("arm", "against") if side in effect} <= set(labels), name
        assert all(
            effect.get("expected") in ("above", "below", "same", "open") for effect in claim["effects"] if "against" in effect
        )
