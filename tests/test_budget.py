"""A recipe's budget as steps of its stages, and the ledger of a whole run."""

import json
from pathlib import Path

import pytest
import yaml

from recipes.ledger import aggregate, compute_table
from recipes.recipe import load_recipe

ROOT = Path(__file__).parent.parent


def recipe_with(tmp_path: Path, **budget: object) -> Path:
    recipe = yaml.safe_load((ROOT / "configs/recipe/paper_light.yaml").read_text())
    for stage in recipe["stages"].values():
        stage["config"] = str((ROOT / "configs/recipe" / stage["config"]).resolve())
    recipe["budget"] |= budget
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return tmp_path / "recipe.yaml"


def steps(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """Name -> stage it starts from, and steps that the budget gives it."""
    stages = load_recipe(path).stages
    return {stage.name: (stage.init_from, stage.settings[1] if stage.settings else None) for stage in stages}


def test_the_paper_scale_recipe_takes_the_steps_of_table_3():
    assert steps(ROOT / "configs/recipe/paper_light.yaml") == {
        "pretrain": (None, None), "midtrain": ("pretrain", "6400"), "grpo": ("midtrain", "160"),  # 40 rollouts x 4 updates
    }  # fmt: skip


def test_more_devices_take_fewer_steps_unless_the_update_has_a_fixed_number_of_tokens(tmp_path):
    assert steps(recipe_with(tmp_path, devices=4))["midtrain"][1] == "6400"
    assert steps(recipe_with(tmp_path, devices=4))["grpo"][1] == "40"


def test_a_stage_without_steps_is_taken_out(tmp_path):
    assert steps(recipe_with(tmp_path, rl_share=0)) == {"pretrain": (None, None), "midtrain": ("pretrain", "8000")}
    assert steps(recipe_with(tmp_path, rl_share=1)) == {"pretrain": (None, None), "grpo": ("pretrain", "800")}


@pytest.mark.parametrize(
    ("budget", "message"), [({"tokenz": 1}, "tokenz"), ({"mid": "middle"}, "middle"), ({"rl_share": 2}, "2")]
)
def test_a_bad_budget_is_refused(tmp_path, budget, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe_with(tmp_path, **budget))


def test_the_ledger_of_a_run_adds_up_its_stages(tmp_path):
    mid = {"phases": {"update": {"tokens": 100, "flops": 9e6}}, "flops": 9e6, "nominal_tokens": 120.0, "nominal_flops": 1e7}
    rl = {
        "phases": {"rollout": {"tokens": 30, "flops": 1e6}, "update": {"tokens": 20, "flops": 2e6}},
        "flops": 3e6, "nominal_tokens": 80.0, "nominal_flops": 9e6,
    }  # fmt: skip
    for name, ledger in (("midtrain", mid), ("grpo", rl)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "compute.json").write_text(json.dumps(ledger))
    table = compute_table(tmp_path, ["midtrain", "grpo"]).splitlines()
    total = json.loads((tmp_path / "compute.json").read_text())["total"]
    assert total == {"tokens": {"update": 120, "rollout": 30}, "flops": 1.2e7, "nominal_flops": 1.9e7, "nominal_tokens": 200.0}
    assert table[-1].split() == ["all", "1.20e+07", "0.00M", "1.90e+07", "1.6"]
    assert aggregate({"midtrain": mid, "grpo": rl | {"flops": None}})["total"]["flops"] is None
