"""Every figure and table of the paper has a recipe, which is planned at the paper's scale without running."""

from pathlib import Path

import pytest
import yaml

import main
from recipes.report.figures import MAKERS

ROOT = Path(__file__).parent.parent
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs/recipe").glob("*.yaml"))}
OF_PAPER = [name for name, recipe in RECIPES.items() if recipe.get("figures")]


def dry_run(capsys, tmp_path, name: str, scale: str) -> str:
    recipe = str(ROOT / f"configs/recipe/{name}.yaml")
    assert main.main(["run", recipe, "--out", str(tmp_path), "--scale", scale, "--seed", "0", "--dry-run"]) == 0
    return capsys.readouterr().out


def test_every_figure_of_results_has_a_recipe_and_a_shape():
    assert {figure for recipe in RECIPES.values() for figure in recipe.get("figures", ())} == {*range(3, 19)}
    assert {figure for shapes in MAKERS.values() for figure in shapes} == {*range(3, 19)}


def test_figures_are_numbered_as_in_the_paper():
    by_figure = {number: [name for name in OF_PAPER if number in RECIPES[name]["figures"]] for number in (9, 12, 14, 16, 17)}
    assert by_figure == {
        9: ["pretraining_ladder"], 12: ["context_share_trace"], 14: ["context_share_seeded"], 16: ["difficulty_mixes"],
        17: ["context_seeding"],
    }  # fmt: skip


def test_the_ladder_is_planned_at_the_papers_scale(capsys, tmp_path):
    assert "19073" in dry_run(capsys, tmp_path, "pretraining_ladder", "paper").replace(",", "")


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("scale", ["paper", "paper_clean", "paper_forward"])
@pytest.mark.parametrize("name", OF_PAPER)
def test_every_recipe_is_planned_at_the_papers_scale(capsys, tmp_path, name, scale):
    assert "steps" in dry_run(capsys, tmp_path, name, scale)
