"""What a study measured goes into the tree, and the study goes on from there."""

import json
from pathlib import Path

import pytest
import yaml
from finished_study import KEY, VALUES, write_study

from recipes.findings import findings_command, kept_study, pilot_gate
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.report.effects import cost
from recipes.report.report_command import report
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies

RECIPE = "extrapolation"


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "runs")
    for path in (tmp_path / "runs/stages").glob("*/test/evaluation.json"):
        found = read(path)
        for of in (*found["grades"]["band"].values(), *found["grades"]["all"].values()):
            of |= {"problems": 3, "errors": {"value": 0.123456789}, "paper": {"pass@1": {"mean": 0.5}}}
            of["answer"] = {"pass@1": {"mean": 0.123456789, "low": 0.1, "high": 0.2}}
            of["process_accuracy"] = {"mean": 0.123456789, "low": 0.1}
        path.write_text(
            json.dumps(
                found
                | {"settings": {"weights": "ab", "seed": 0}, "skills": {"all": {"atomic": {}}, "op2": {}}}
                | {"likelihood": {"edge": {"all": {"nll_nats": 0.123456789, "tokens": 9}, "final": {"nll_nats": 1.0}}}}
            )
        )
    logs = {"edge1": "step,train/reward,train/loss\n0,0.123456789,1.0\n1,,2.0\n", "base1": "step,train/loss\n0,1.0\n"}
    for name, text in logs.items():
        (tmp_path / "runs/stages" / name / "metrics.csv").write_text(text)
    return tmp_path


def test_what_claims_need_is_kept_and_read_like_the_runs(study):
    kept_study.keep(study / "runs", study / "kept")
    files = sorted(path.relative_to(study / "kept") for path in (study / "kept").rglob("*.json"))
    # the index; evaluation, training, environment and FLOPs of each stage; three bases' competence; what one stage sampled
    assert len(files) == 1 + 12 * 4 + 3 + 1
    assert read(study / "kept/stages/edge1/compute.json") == {"flops": 1e12}
    found = read(study / "kept/stages/edge1/test/evaluation.json")
    assert found["grades"]["band"]["edge"] == {
        "executable": {"pass@16": {"mean": 0.45}}, "answer": {"pass@1": {"mean": 0.12346}}, "errors": {"value": 0.12346},
        "process_accuracy": {"mean": 0.12346},
    }  # fmt: skip
    assert found["likelihood"] == {"edge": {"all": {"nll_nats": 0.12346}}}
    assert [path.parent.name for path in (study / "kept").rglob("metrics.csv")] == ["edge1"]
    assert (study / "kept/stages/edge1/metrics.csv").read_text() == "step,train/reward\n0,0.123457\n"
    assert found["settings"] == {"weights": "ab"}
    assert found["skills"] == {"all": {"atomic": {}}}
    (of_runs,), (of_kept,) = find_studies(study / "runs"), find_studies(study / "kept")
    assert of_runs.groups == of_kept.groups
    seconds = cost(of_kept, Files(study / "kept"))
    assert (seconds["stages/edge0"], seconds["stages/edge1"]) == (100 + 20 + 4 + 7 + 1, 200 + 20 + 4)
    values = {run.seed: Files(study / "kept").value(run.last.evaluation, KEY) for run in of_kept.groups[1].runs}
    assert values == VALUES["edge"]
    assert report(study / "kept", study / "page").is_file()


def test_what_another_day_kept_stays(study):
    kept_study.keep(study / "runs", study / "kept")
    index = study / "runs/extrapolation.tiny.json"
    arms = read(index)["arms"]
    index.write_text(json.dumps(read(index) | {"arms": [arm for arm in arms if arm["seed"] == 1]}))  # a fresh folder of runs
    kept_study.keep(study / "runs", study / "kept")
    assert {arm["name"] for arm in read(study / "kept/extrapolation.tiny.json")["arms"]} == {arm["name"] for arm in arms}


def test_what_was_kept_of_an_arm_that_means_something_else_today_is_dropped(study):
    """Of two arms the recipe changed one; another day had kept a seed of both."""
    index, kept = study / "runs" / f"{RECIPE}.tiny.json", study / "kept" / f"{RECIPE}.tiny.json"
    found = read(index)
    changed = found["arms"][0]["values"]
    earlier = [arm | {"lineage": "old", "seed": 90, "name": arm["name"] + "-90"} for arm in found["arms"]]
    kept.parent.mkdir()
    kept.write_text(json.dumps(found | {"arms": earlier}))
    today = [arm | {"lineage": "new" if arm["values"] == changed else "old"} for arm in found["arms"]]
    index.write_text(json.dumps(found | {"arms": today}))
    kept_study.keep(study / "runs", kept.parent)
    left = [arm["values"] for arm in read(kept)["arms"] if arm["seed"] == 90]
    assert left and changed not in left


def test_arms_that_are_not_complete_are_not_kept(study):
    index = study / "runs/extrapolation.tiny.json"
    found = read(index)
    found["arms"][-1]["stages"][-1]["state"] = "failed"
    index.write_text(json.dumps(found))
    kept_study.keep(study / "runs", study / "kept")
    assert found["arms"][-1]["name"] not in {arm["name"] for arm in read(study / "kept/extrapolation.tiny.json")["arms"]}


def name_as_planned(runs, seeds):
    """Give the stages of these seeds the folders that today's recipe would."""
    index = runs / f"{RECIPE}.tiny.json"
    found, renamed = read(index), {}
    planned = {arm.name: arm.stages for arm in make_plan(load_recipe(RECIPE, "tiny"), seeds).arms}
    for arm in (arm for arm in found["arms"] if arm["seed"] in seeds):
        for stage, of_plan in zip(arm["stages"], planned[arm["name"]], strict=True):
            renamed[stage["folder"]] = f"stages/{of_plan.label}"
            stage["folder"] = f"stages/{of_plan.label}"
    for old, new in renamed.items():
        (runs / old).rename(runs / new)
    index.write_text(json.dumps(found))


def test_a_study_runs_what_is_missing_and_no_more(study, monkeypatch):
    """The whole recipe has more arms than the two that are there, whose effect alone is primary here.

    Those of seed 3 are there under the names of an earlier config, which count for nothing.
    """
    ran = []
    name_as_planned(study / "runs", (0, 5))
    monkeypatch.setattr(kept_study, "HERE", study)
    monkeypatch.setattr(pilot_gate, "HERE", study)
    monkeypatch.setattr(kept_study, "CLAIMS", study / "claims.yaml")
    monkeypatch.setattr(kept_study, "run_recipes", lambda words: ran.append(words) or 0)
    monkeypatch.setattr(kept_study, "write_findings", lambda argv: None)
    effect = {"what": "edge - base", "arm": "edge", "against": "base", "at": KEY, "primary": True}
    later = {"seeds": [7], "effects": [{"what": "rho", "correlation": {}, "primary": True}]}  # of all arms
    claims = {"scale": "tiny", "seeds": [0, 3, 5, 6], "findings": {RECIPE: {"effects": [effect]}, "gain_prediction": later}}
    (study / "claims.yaml").write_text(yaml.safe_dump(claims))
    with pytest.raises(SystemExit, match="no pilot of today's scale has passed the gate; run `make pilot`"):
        kept_study.main([])
    monkeypatch.setattr(kept_study, "is_open", lambda claims: True)
    kept_study.keep(study / "runs", study / "study")
    assert kept_study.main(["--primary", "--out", str(study / "runs")]) == 0
    assert [words[words.index("--seed") + 1] for words in ran] == ["3", "6", "7"]
    only = [words[words.index("--only") + 1] if "--only" in words else "all" for words in ran]
    assert only == ["base-seed3,edge-seed3", "base-seed6,edge-seed6", "all"]
    ran.clear()
    kept_study.main(["--out", str(study / "runs")])
    assert [words[words.index("--seed") + 1] for words in ran] == ["0", "3", "5", "6", "7"]  # `inside` and others are missing
    assert [Path(words[0]).stem for words in ran] == [RECIPE] * 4 + ["gain_prediction"]
    assert all("--only" not in words for words in ran)


def test_what_was_kept_of_a_seed_is_run_again_if_its_base_became_another_model(study, monkeypatch):
    name_as_planned(study / "runs", (0,))
    base, edge = (study / "runs" / stage["folder"] for stage in read(study / f"runs/{RECIPE}.tiny.json")["arms"][6]["stages"])
    for folder, record in ((base, {"weights": "ab"}), (edge, {"weights": "ab", "seconds": 1})):
        (folder / "training.json").write_text(json.dumps(read(folder / "training.json") | record))
    (edge / "stage.json").write_text(json.dumps({"start": "ab"}))
    kept_study.keep(study / "runs", study / "study")
    arms = ["base-seed0", "edge-seed0"]
    assert kept_study.is_kept(RECIPE, "tiny", 0, study / "study", arms)
    again = study / "study" / base.relative_to(study / "runs")
    for name in ("training.json", "test/evaluation.json"):
        text = (again / name).read_text()
        (again / name).write_text(text.replace('"ab"', '"cd"'))
    assert not kept_study.is_kept(RECIPE, "tiny", 0, study / "study", arms)
    (found,) = find_studies(study / "study")
    assert found.missing["edge-seed0"] == "edge: started from other weights than base has now"
    assert {group.label: len(group.runs) for group in found.groups} == {"base": 6, "edge": 5}

    kept, ran = {"one": True, "missing": False}, []

    def run(words):
        ran.append(words[0].rpartition("/")[2])
        kept.update(one=len(ran) == 2, missing=True)  # the missing one trains the base of both again
        assert words[words.index("--hardware") + 1] == "trainer.accelerator=gpu"
        return 0

    (study / "claims.yaml").write_text(yaml.safe_dump({"scale": "tiny", "seeds": [0], "findings": {name: {} for name in kept}}))
    for name, stand_in in (("CLAIMS", study / "claims.yaml"), ("is_open", lambda claims: True), ("run_recipes", run),
                           ("is_kept", lambda name, *rest: kept[name]), ("keep", lambda *folders: None),
                           ("write_findings", lambda argv: None)):  # fmt: skip
        monkeypatch.setattr(kept_study, name, stand_in)
    assert kept_study.main(["--hardware", "trainer.accelerator=gpu"]) == 0
    assert ran == ["missing.yaml", "one.yaml"]


def test_a_recipe_without_claims_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(kept_study, "is_open", lambda claims: True)
    with pytest.raises(SystemExit):
        kept_study.main(["--recipes", "extrapolaton"])
    assert "--recipes 'extrapolaton': give some of extrapolation,edge_again" in capsys.readouterr().err


def test_a_seed_that_no_claim_plans_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(kept_study, "is_open", lambda claims: True)
    with pytest.raises(SystemExit):
        kept_study.main(["--recipes", "pass_at_k_edge", "--seeds", "0"])
    assert "--seeds 0: give some of 12,13,14,15,16,17, which configs/claims.yaml plans." in capsys.readouterr().err


@pytest.mark.parametrize(("lowest", "most", "passes"), [(0.96, 0.3, True), (0.96, 0.28, False), (0.94, 0.3, False)])
def test_the_gate_of_the_pilot(study, monkeypatch, capsys, lowest, most, passes):
    index = read(study / "runs/extrapolation.tiny.json")
    arms = [arm for arm in index["arms"] if arm["values"]["data"] == "base" and arm["seed"] < 3]
    (study / "runs/extrapolation.tiny.json").unlink()
    (study / "runs/pilot.tiny.json").write_text(json.dumps(index | {"recipe": "pilot", "arms": arms}))
    for seed in range(3):
        steps = [{"step": 200, "pass@1": 1.0, "op": 2}, {"step": 400, "pass@1": 0.97 if seed else 0.9, "op": 3}]
        stage = study / f"runs/stages/base{seed}"
        (stage / "competence.json").write_text(json.dumps({"reached": seed > 0, "validations": steps}))
        (stage / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"held_out": {"bands": {"ID": "2-3"}}}}}))
        ops = {"2": 1.0, "3": lowest if seed == 1 else 0.97, "4": 0.1}
        grades = {op: {"executable": {"pass@1": {"mean": value}}} for op, value in ops.items()}
        found = read(stage / "test/evaluation.json")
        (stage / "test/evaluation.json").write_text(json.dumps(found | {"grades": found["grades"] | {"op": grades}}))
    monkeypatch.setattr(pilot_gate, "HERE", study)
    monkeypatch.setattr(pilot_gate, "CLAIMS", study / "claims.yaml")
    gate = [
        {"what": "ID", "at": "/grades/op/{ID}/executable/pass@1/mean", "within": [0.95, 1.0]},
        {"what": "edge pass@16", "at": KEY, "within": [0.1, most]},
    ]
    (study / "claims.yaml").write_text(yaml.safe_dump({"scale": "tiny", "gate": gate}))
    assert pilot_gate.main([str(study / "runs")]) == int(not passes)
    found = read(study / "pilot.json")
    assert found["passes"] == passes
    assert [base["passes"] for base in found["bases"]] == [True, passes, True]
    assert found["bases"][1]["values"] == {"ID": lowest, "edge pass@16": 0.3}
    assert [(base["updates"], base["competent_at_validation"]) for base in found["bases"]] == [
        (400, False),
        (400, True),
        (400, True),
    ]
    assert ("The study may start." if passes else "The study does not start") in capsys.readouterr().out
    assert not pilot_gate.passes(found["bases"][1:])  # two bases are too few
    assert not pilot_gate.is_open({"scale": "tiny", "gate": gate})  # these bases are not those that the recipe would train


def test_the_study_of_the_tree_has_the_numbers_of_its_effects():
    """Every number on the page comes from files in the tree."""
    effects = read(findings_command.HERE / "effects.json")
    files = Files(findings_command.HERE / "study")
    for found in effects.values():
        for effect in found["effects"]:
            for seed, terms in zip(effect.get("seeds", ()), effect.get("terms", ()), strict=True):
                if "correlation" in effect:
                    pairs = [[sum_of(files, part) for part in pair] for pair in terms]
                    assert seed == pytest.approx(spearman(*zip(*pairs, strict=True)))
                else:
                    assert seed == pytest.approx(sum_of(files, terms))


def sum_of(files, terms):
    return sum(weight * files.value(path, key) for weight, path, key in terms)


def spearman(xs, ys):
    """By its definition: every pair of runs that are in the same order (+1) or not (-1) sums to centred ranks."""
    ranks = [
        [sum((a > b) - (a < b) for b in side) for a in side] for side in ([round(v, 9) for v in xs], [round(v, 9) for v in ys])
    ]
    above = sum(x * y for x, y in zip(*ranks, strict=True))
    return above / (sum(x * x for x in ranks[0]) * sum(y * y for y in ranks[1])) ** 0.5


def test_the_pilot_of_the_tree_opens_the_study_for_the_world_that_it_measured():
    claims = yaml.safe_load(pilot_gate.CLAIMS.read_text())
    assert pilot_gate.is_open(claims)
    assert not pilot_gate.is_open(claims | {"gate": claims["gate"][1:]})
    assert not pilot_gate.is_open(claims | {"scale": "night"})
