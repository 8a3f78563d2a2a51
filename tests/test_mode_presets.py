"""Modes of presets, and evaluations that ask what no stage has seen."""

from pathlib import Path

import pytest
import yaml
from minute_recipe import write_recipe

import main
from datamodules.problems.mixture import MODES, PRESETS, Mixture, read_mixture
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.scale import load_scale
from recipes.planning.seen import check_seen

ROOT = Path(__file__).parent.parent
SCALES = ROOT / "configs/scale"


def reverse_share(name: str, ops: range = range(2, 21)) -> float:
    weights = Mixture(read_mixture(name)).weights
    inside = sum(weight for cell, weight in weights.items() if cell.op in ops)
    return sum(weight for cell, weight in weights.items() if cell.mode == MODES[1] and cell.op in ops) / inside


@pytest.mark.parametrize("name", yaml.safe_load(PRESETS.read_text()))
def test_modes_change_nothing_else_of_a_preset(name):
    plain = Mixture(read_mixture(name)).weights
    assert Mixture(read_mixture(f"{name}@forward")).weights == pytest.approx(plain)
    by_op: dict[tuple, float] = {}
    for cell, weight in Mixture(read_mixture(f"{name}@as_paper")).weights.items():
        by_op[cell.op, cell.context] = by_op.get((cell.op, cell.context), 0) + weight
    assert by_op == pytest.approx({(cell.op, cell.context): weight for cell, weight in plain.items()})


def test_as_paper_is_half_of_rl_and_less_of_what_is_easy_in_training():
    for name in ("rl_7_10", "rl_9_12", "rl_11_14", "rl_17_20", "rl_school_10"):
        assert reverse_share(f"{name}@as_paper") == pytest.approx(0.5)
    for name in ("pretrain_20_30_50", "midtrain_20_80_edge", "seed_1"):
        assert reverse_share(f"{name}@as_paper", range(2, 11)) == pytest.approx(0.25)
    assert reverse_share("midtrain_20_80_edge@as_paper", range(11, 15)) == pytest.approx(0.5)


def test_unknown_modes_name_those_there_are():
    with pytest.raises(ValueError, match="as_paper, forward, half, reverse"):
        read_mixture("rl_7_10@backwards")


def test_scales_that_are_like_the_paper_differ_from_it_in_what_they_say():
    paper, forward, clean = (load_scale(name, SCALES) for name in ("paper", "paper_forward", "paper_clean"))
    assert paper.setting("rl_edge")["data.init_args.mixture"] == "rl_11_14@as_paper"
    assert forward.setting("rl_edge")["data.init_args.mixture"] == "rl_11_14@forward"
    for kind in paper.kinds:
        theirs, ours = paper.kind(kind), forward.kind(kind)
        assert theirs[0] == ours[0]
        assert {key for key in theirs[1] if theirs[1][key] != ours[1][key]} <= {
            "data.init_args.mixture", "data.init_args.held_out.modes",
        }  # fmt: skip
        assert ours[1]["data.init_args.held_out.modes"] == [MODES[0]]
        changed = {key for key in theirs[1] if theirs[1][key] != clean.kind(kind)[1][key]}
        packed = {"data.init_args.packing.fit", "model.init_args.document_mask"}
        assert changed == (set() if kind.startswith("grpo") else packed)
    assert forward.axes == clean.axes == paper.axes
    assert forward.graders == paper.graders == ("paper", "executable")


def refused(tmp_path: Path, capsys, **changes: object) -> str:
    recipe = write_recipe(tmp_path)
    raw = yaml.safe_load(recipe.read_text())
    raw["unseen"] = []
    for key, value in changes.items():
        if key == "unseen":
            raw["unseen"] = value
            continue
        for stage in raw["stages"].values():
            stage.setdefault("set", {})[f"data.init_args.held_out.{key}"] = value
    recipe.write_text(yaml.safe_dump(raw, sort_keys=False))
    code = main.main(["run", str(recipe), "--out", str(tmp_path / "out"), "--dry-run"])
    said = capsys.readouterr().err
    assert (code == 2) == bool(said), said
    return said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bands": {"far": "30-31"}}, "no stage sees 'far'"),
        ({"contexts": ["garden", "orchestra"]}, "no stage sees 'edge', 'orchestra'"),
        ({"bands": {"far": "30-31"}, "unseen": ["far"]}, ""),
        ({"unseen": ["nowhere"]}, "are no bands, contexts or modes"),
    ],
)
def test_what_no_stage_sees_is_refused_unless_it_is_meant(tmp_path, capsys, changes, said):
    found = refused(tmp_path, capsys, **changes)
    assert said in found if said else "sees" not in found


def test_reverse_problems_that_no_stage_sees_are_refused():
    recipe = load_recipe(ROOT / "configs/recipe/pretraining_ladder.yaml", "paper_forward")
    plan = make_plan(recipe, (0,))
    check_seen(plan)
    plan.arms[0].stages[0].config["data"]["init_args"]["held_out"]["modes"] = list(MODES)
    with pytest.raises(ValueError, match="no stage sees 'forwardreverse'"):
        check_seen(plan)
