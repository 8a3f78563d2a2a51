"""Recipes and commands that cannot be run are refused: what is wrong, where, and how it is written."""

import math
from pathlib import Path

import pytest
import yaml
from minute_recipe import write_recipe

import main
from recipes.planning.recipe import load_recipe
from recipes.planning.resolve import flags, resolve
from recipes.planning.scale import load_scale

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["{recipe}"], "['minute']"), ([str(ROOT / "configs/recipe/quickstart.yaml")], "quickstart has no arms"),
        (["--at-once", "0"], "1 or more"), (["--at-once", "2", "--launcher", "debug"], "--launcher debug"),
        (["--job", "timeout_min=3"], "--launcher"),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_run_so_are_refused(tmp_path, extra, message, capsys):
    recipe = str(write_recipe(tmp_path))
    assert main.main(["run", recipe, *(word.format(recipe=recipe) for word in extra), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_without_arms_runs_here(tmp_path, capsys):
    recipe = str(ROOT / "configs/recipe/quickstart.yaml")
    assert main.main(["run", recipe, "--out", str(tmp_path), "--launcher", "slurm"]) == 2
    assert "quickstart has no arms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {"data": {"x": {"grop": {}}}}}, "grop"), ({"arms": {"data": {"x": {"skip": ["rl"]}}}}, "rl"),
        ({"arms": {"data": {"x": {"grpo": {"use": "edge"}}}}}, "edge"), ({"arms": {"data": "budgets"}}, "budgets"),
        ({"scale": "huge"}, "huge"), ({"stages": {"pretrain": {"kind": "pretrain"}}}, "scale"), ({"arm": {}}, "arms"),
        ({"arms": {"data": {"x": {"grpo": {"set": {"trainer.max_stepz": 1}}}}}}, "stage 'grpo' of arm 'x-seed0': "),
        ({"arms": None}, "`arms: {"), ({"arms": ["edge"]}, "`arms: {"),
        ({"arms": {"data": {"x": {"grpo": None}}}}, "`use` or `set`"),
        ({"arms": {"data": {"x": {"skip": "grpo"}}}}, "`skip: [grpo]`"), ({"seeds": 3}, "`seeds: [0, 1, 2]`"),
        ({"seeds": []}, "`seeds: [0, 1, 2]`"), ({"figures": ["3"]}, "`figures: [3, 10]`"),
        ({"arms": {"data": {"x": {"grpo": {"set": "a.b"}}}}}, "`set: {trainer"),
        ({"arms": {"data": {"x": {"skip": ["pretrain", "grpo"]}}}}, "'x-seed0' skips every stage"),
        ({"budget": {"tokens": "abc", "rl_share": 0.5}}, "got 'abc'"),
        ({"arms": {"from": {"2": {}, "2-4": {}}, "to": {"4-8": {}, "8": {}}}}, "two arms are named '2-4-8-seed0'"),
        ({"arms": {"data": {"x": {"grpo": {"set": {"model.init_args.init_from": "elsewhere"}}}}}}, "the stage's `init_from`"),
        ({"arms": {"data": {"x": {"grpo": {"set": {"seed_everything": 3}}}}}}, "use --seed or `seed_shift`"),
        ({"arms": {"data": {"x": {"grpo": {"set": {"seed_shift": "x"}}}}}}, "seed_shift 'x' is added to the seed"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_refused(tmp_path, change, message, capsys):
    assert main.main(["run", str(write_recipe(tmp_path, **change)), "--out", str(tmp_path / "out"), "--dry-run"]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_arm_or_scale_is_refused(tmp_path, capsys):
    command = ["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main.main([*command, "--only", "nothing*"]) == 2
    assert "base-seed0" in capsys.readouterr().err
    assert main.main([*command, "--scale", "tiny"]) == 2
    command = ["run", str(ROOT / "configs/recipe/extrapolation.yaml"), "--out", str(tmp_path / "out"), "--dry-run", "--seed", "0"]
    assert main.main([*command, "--scale", "huge"]) == 2
    assert "there are night, paper, paper_clean, paper_forward, small, tiny." in capsys.readouterr().err


def test_a_scale_is_found_by_name_from_anywhere_and_by_its_path(tmp_path):
    recipe = {"scale": "tiny", "stages": {"pretrain": {"kind": "pretrain"}}, "arms": {"data": {"base": {}}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    assert load_recipe(tmp_path / "own.yaml").scale.name == "tiny"
    assert load_recipe(tmp_path / "own.yaml", str(ROOT / "configs/scale/small.yaml")).scale.name == "small"


def test_a_scale_may_be_like_one_of_its_own_name_elsewhere(tmp_path):
    (tmp_path / "scale").mkdir()
    (tmp_path / "scale/tiny.yaml").write_text("like: tiny\nabout: Ours.\nset: {trainer.max_steps: 7}\n")
    (tmp_path / "scale/mine.yaml").write_text("like: tiny\n")
    shipped = load_scale("tiny", ROOT / "configs/recipe")
    (tmp_path / "recipe").mkdir()
    for name in ("tiny", "mine"):
        ours = load_scale(name, tmp_path / "recipe")
        assert ours.about == "Ours."
        assert ours.kind("pretrain")[0] == shipped.kind("pretrain")[0]
        assert ours.kind("pretrain")[1]["trainer.max_steps"] == 7 != shipped.kind("pretrain")[1].get("trainer.max_steps")
    (tmp_path / "scale/other.yaml").write_text("like: another\n")
    (tmp_path / "scale/another.yaml").write_text("like: other\n")
    with pytest.raises(ValueError, match="'other' does not exist"):
        load_scale("other", tmp_path / "recipe")


def test_a_kind_may_name_one_config(tmp_path):
    (tmp_path / "pretrain.yaml").write_text("{}")
    (tmp_path / "own.yaml").write_text("kinds: {pretrain: {config: pretrain.yaml}}\n")
    assert load_scale(str(tmp_path / "own.yaml"), tmp_path).kind("pretrain")[0] == (tmp_path / "pretrain.yaml",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([0.0, math.inf], "[0.0, .inf]"), (-math.inf, "-.inf"), (math.nan, ".nan"),
        ({"a": None, "b": [True]}, '{"a": null, "b": [true]}'),
        (["Infinity", 'a "NaN"', "\\"], r'["Infinity", "a \"NaN\"", "\\"]'), ({"2": "1e5"}, '{"2": "1e5"}'),
    ],
)  # fmt: skip
def test_settings_reach_a_stage_as_they_are(value, text):
    assert flags({"key": value}) == [f"--key={text}"]
    read = yaml.safe_load(text)
    assert read == value or (read != read and value != value)


def test_an_infinite_bound_is_a_setting():
    """As a mapping: jsonargparse writes and reads again what a longer key holds, and does not read its own infinity."""
    settings = {"model.init_args.kl": {"target": 0.1, "bounds": [0.0, math.inf]}}
    found = resolve([ROOT / "configs/experiment/quickstart_grpo.yaml"], settings)
    assert found["model"]["init_args"]["kl"]["bounds"] == [0.0, math.inf]
