"""A recipe's budget as steps of its stages, and the ledger of a whole run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from recipes.planning.plan import Planned, make_plan
from recipes.planning.recipe import Change, load_recipe
from recipes.running.result_tables import compute_table, sum_ledgers

ROOT = Path(__file__).parent.parent


SPLIT = ROOT / "configs/recipe/compute_split.yaml"


def stages(tokens: float, rl_share: float, trainer: dict | None = None, **budget: object) -> dict[str, Planned]:
    """By name, those that the budget leaves at the paper's scale; `trainer`: settings of mid-training and RL."""
    change = Change(budget={"tokens": tokens, "rl_share": rl_share, **budget})
    settings = {f"trainer.{key}": value for key, value in (trainer or {}).items()}
    change = replace(change, settings={"midtrain": settings, "grpo": settings})
    plan = make_plan(replace(load_recipe(SPLIT, "paper"), axes={"budget": {"this": change}}), (0,))
    return {stage.name: stage for stage in plan.arms[0].stages}


def steps(*given: float, **more: object) -> dict[str, tuple[str | None, int]]:
    """Name -> stage it starts from, and updates."""
    return {
        name: (stage.parent and stage.parent.name, stage.config["trainer"]["max_steps"])
        for name, stage in stages(*given, **more).items()
    }


def test_the_paper_scale_recipe_takes_the_steps_of_table_3():
    light = steps(4.194304e9, 0.2)
    assert light.pop("pretrain")[0] is None
    assert light == {"midtrain": ("pretrain", 6400), "grpo": ("midtrain", 160)}  # 40 rollouts x 4 updates


def test_mid_training_takes_a_multiple_of_updates_where_runs_of_all_lengths_are_read_from_one():
    """Oracle: the nearest multiple, by hand."""
    assert steps(4.194304e9, 0.2, mid_multiple=387)["midtrain"][1] == 17 * 387 == 6579
    assert steps(4.194304e9, 0.2, mid_multiple=1)["midtrain"][1] == 6400


def test_more_devices_take_fewer_steps_unless_the_update_has_a_fixed_number_of_tokens():
    assert steps(4.194304e9, 0.2, devices=4)["midtrain"][1] == 6400
    assert steps(4.194304e9, 0.2, devices=4)["grpo"][1] == 40


def test_the_devices_of_a_stage_are_counted_and_kept():
    here = {"devices": 2, "num_nodes": 2, "strategy": "ddp"}
    found = stages(4.194304e9, 0.2, trainer=here)
    assert [found[name].config["trainer"]["max_steps"] for name in ("midtrain", "grpo")] == [6400, 40]
    trainer = found["grpo"].config["trainer"]
    assert {key: str(trainer[key]) for key in here} == {"devices": "2", "num_nodes": "2", "strategy": "ddp"}
    with pytest.raises(ValueError, match=r"'midtrain' takes all available devices; set their number in `budget.devices`"):
        stages(4.194304e9, 0.2, trainer={"devices": "auto"})
    assert stages(4.194304e9, 0.2, trainer={"devices": "auto"}, devices=4)["grpo"].config["trainer"]["max_steps"] == 40


@pytest.mark.parametrize("gone", ["by its budget", "by its arm"])
def test_what_starts_from_weights_of_elsewhere_does_so_without_its_first_stage(tmp_path, gone):
    """Mid-training starts from weights that the recipe names; RL alone does, too, and not from those of its own config."""
    here, start = ROOT / "configs/experiment", {"model.init_args.init_from": "released/base"}
    recipe = {
        "stages": {
            "midtrain": {"config": str(here / "quickstart_midtrain.yaml"), "set": start},
            "grpo": {"config": str(here / "quickstart_grpo.yaml"), "init_from": "midtrain"},
        },
        "arms": {"data": {"RL alone": {"skip": ["midtrain"]} if gone == "by its arm" else {}}},
    }  # fmt: skip
    if gone == "by its budget":
        recipe["budget"] = {"tokens": 1e7, "rl_share": 1.0}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (stage,) = make_plan(load_recipe(tmp_path / "own.yaml")).arms[0].stages
    assert (stage.name, stage.parent) == ("grpo", None)
    assert stage.config["model"]["init_args"]["init_from"] == "released/base"


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
    assert sum_ledgers({"midtrain": mid, "grpo": rl | {"flops": None}})["total"]["flops"] is None
