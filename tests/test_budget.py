"""A recipe's budget as steps of its stages, and the ledger of a whole run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recipes.ledger import aggregate, compute_table
from recipes.plan import make_plan
from recipes.recipe import Change, load_recipe

ROOT = Path(__file__).parent.parent


SPLIT = ROOT / "configs/recipe/compute_split.yaml"


def steps(tokens: float, rl_share: float, **budget: object) -> dict[str, tuple[str | None, int]]:
    """Name -> stage it starts from, and updates that the budget gives it, at the paper's scale."""
    change = Change(budget={"tokens": tokens, "rl_share": rl_share, **budget})
    plan = make_plan(replace(load_recipe(SPLIT, "paper"), axes={"budget": {"this": change}}), (0,))
    return {
        stage.name: (stage.parent and stage.parent.name, stage.config["trainer"]["max_steps"]) for stage in plan.arms[0].stages
    }


def test_the_paper_scale_recipe_takes_the_steps_of_table_3():
    light = steps(4.194304e9, 0.2)
    assert light.pop("pretrain")[0] is None
    assert light == {"midtrain": ("pretrain", 6400), "grpo": ("midtrain", 160)}  # 40 rollouts x 4 updates


def test_more_devices_take_fewer_steps_unless_the_update_has_a_fixed_number_of_tokens():
    assert steps(4.194304e9, 0.2, devices=4)["midtrain"][1] == 6400
    assert steps(4.194304e9, 0.2, devices=4)["grpo"][1] == 40


def test_a_stage_without_steps_is_taken_out():
    assert steps(4.194304e9, 0).keys() == {"pretrain", "midtrain"}
    assert steps(4.194304e9, 1)["grpo"] == ("pretrain", 800)


@pytest.mark.parametrize(
    ("budget", "message"), [({"tokenz": 1}, "tokenz"), ({"mid": "middle"}, "middle"), ({"rl_share": 2}, "2")]
)
def test_a_bad_budget_is_refused(budget, message):
    with pytest.raises(ValueError, match=message):
        steps(**({"tokens": 4.194304e9, "rl_share": 0.2} | budget))


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
