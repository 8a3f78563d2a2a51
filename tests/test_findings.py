"""The page of findings: differences between arms and what their intervals say, against sums by hand."""

import json
from math import sqrt
from pathlib import Path

import pytest
import yaml

from docs.findings import update
from recipes.recipe import load_recipe

ROOT = Path(__file__).parent.parent
KEY = "/grades/band/edge/executable/pass@16/mean"
VALUES = {"base": {0: 0.1, 1: 0.3, 2: 0.2}, "edge": {0: 0.4, 1: 0.45, 2: 0.52}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished recipe of two arms, three seeds; its report, which has tests of its own, is left out."""
    monkeypatch.setattr(update, "report", lambda root, out: None)
    arms = []
    for arm, seeds in VALUES.items():
        for seed, value in seeds.items():
            stage = tmp_path / "study/stages" / f"{arm}{seed}"
            (stage / "test").mkdir(parents=True)
            grades = {"band": {"edge": {"executable": {"pass@16": {"mean": value}}}}}
            (stage / "test/evaluation.json").write_text(
                json.dumps({"grades": grades, "seconds": {"sampling": 20, "verification": 4}})
            )
            (stage / "training.json").write_text(json.dumps({"seconds": 100 * (seed + 1)}))
            made = {"versions": {"torch": "2.13"}, "commit": "0123456789", "python": "3"}
            (stage / "environment.json").write_text(json.dumps(made))
            stages = [{"name": "grpo", "kind": "grpo", "folder": f"stages/{arm}{seed}", "state": "complete"}]
            arms.append({"name": f"{arm}-seed{seed}", "values": {"data": arm}, "seed": seed, "stages": stages})
    index = {
        "recipe": "extrapolation", "scale": "tiny", "about": "", "about_scale": "", "figures": [], "axes": {"data": list(VALUES)},
        "arms": arms,
    }  # fmt: skip
    (tmp_path / "study/extrapolation.tiny.json").write_text(json.dumps(index))
    effect = {"what": "edge - base", "arm": "edge", "against": "base", "at": KEY, "expected": "above"}
    lost = effect | {"what": "lost - base", "arm": "lost"}
    claim = {"title": "RL", "claim": "It does.", "effects": [effect, lost]}
    claims = {"about": "# Findings", "findings": {"extrapolation": claim, "other": claim | {"title": "Other"}}}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(claims))
    return tmp_path


def test_a_difference_is_taken_seed_by_seed_with_students_interval(folder):
    update.main([str(folder / "study")], folder)
    (effect,) = json.loads((folder / "effects.json").read_text())["extrapolation"]["effects"]  # arm `lost` is left out
    pairs = [VALUES["edge"][seed] - VALUES["base"][seed] for seed in range(3)]
    assert effect["seeds"] == pytest.approx(pairs)
    middle = sum(pairs) / 3
    half = 4.30265 * sqrt(sum((pair - middle) ** 2 for pair in pairs) / 2 / 3)  # 97.5% of Student's t, 2 degrees of freedom
    assert [effect["value"], effect["low"], effect["high"]] == pytest.approx([middle, middle - half, middle + half], abs=1e-4)
    weight, path, key = effect["terms"][1][1]
    assert (weight, key) == (-1, KEY)
    assert json.loads((folder / "study" / path).read_text())["grades"]["band"]["edge"]["executable"]["pass@16"]["mean"] == 0.3
    page = (folder / "README.md").read_text()
    assert "+0.257" in page and "at 0123456: 6 stages, 22 minutes of one core." in page and "\n\n1 reproduced.\n\n" in page
    assert "All 6 stages, each made once: 0.4 hours of one core, training and testing; 2.1 to 5.4 minutes each." in page
    assert "## Other\n\nClaim: It does.\n\nNot measured yet." in page


@pytest.mark.parametrize("name", ["extrapolation.small.json", "unheard_of.tiny.json"])
def test_what_a_folder_does_not_hold_is_kept(folder, name):
    update.main([str(folder / "study")], folder)
    before = (folder / "README.md").read_text()
    other = folder / "study/extrapolation.tiny.json"
    (folder / "study" / name).write_text(other.read_text().replace("edge", "base"))
    other.unlink()
    update.main([str(folder / "study")], folder)
    assert (folder / "README.md").read_text() == before


@pytest.mark.parametrize(
    ("low", "high", "expected", "says"),
    [
        (0.01, 0.2, "above", "reproduced"), (-0.2, -0.01, "above", "not reproduced"), (-0.1, 0.2, "above", "not resolvable"),
        (-0.02, 0.01, "above", "not reproduced"), (-0.03, 0.01, "above", "not resolvable"),
        (-0.2, -0.01, "below", "reproduced"), (0.01, 0.2, "below", "not reproduced"), (-0.01, 0.02, "below", "not reproduced"),
        (-0.04, 0.03, "same", "reproduced"), (0.01, 0.2, "same", "not reproduced"), (-0.1, 0.2, "same", "not resolvable"),
        (0.01, 0.04, "same", "reproduced"),
        (0.01, 0.2, "open", "above zero"), (-0.2, -0.1, "open", "below zero"), (-0.1, 0.1, "open", "not resolvable"),
    ],
)  # fmt: skip
def test_a_verdict_follows_from_the_interval(low, high, expected, says):
    number = update.Number((low + high) / 2, low, high, ((), ()))
    assert update.verdict(number, expected) == says


def test_one_seed_resolves_nothing():
    assert update.verdict(update.Number(0.3, 0.2, 0.4, ((),)), "above").startswith("not resolvable")


def test_claims_speak_of_arms_that_their_recipes_have():
    claims = yaml.safe_load((ROOT / "docs/findings/claims.yaml").read_text())["findings"]
    for name, claim in claims.items():
        axes = load_recipe(ROOT / f"configs/recipe/{name}.yaml").axes
        labels = [""]
        for values in axes.values():
            labels = [f"{label}-{value}".removeprefix("-") for label in labels for value in values]
        assert {effect[side] for effect in claim["effects"] for side in ("arm", "against")} <= set(labels), name
        assert all(effect["expected"] in ("above", "below", "same", "open") for effect in claim["effects"])
