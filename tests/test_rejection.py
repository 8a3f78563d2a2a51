"""A stage that learns from its parent's solutions: what it samples, keeps and costs, how it resumes, what is refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from minute_recipe import ROOT, minute_config, write_configs
from processes import run
from test_recipe_resume import kill_at, numbers, start

import main
from callbacks.evaluation.sample_files import read_samples
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules.models.flops import forward_flops
from recipes.expert_iteration import rounds
from recipes.planning.estimate import estimate
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.workload import architecture_of, workload
from recipes.rejection import rejection_sampling
from recipes.rejection.accepted import Filter
from recipes.running.stage_folders import StageFolders

MIXTURE = [{"ops": "2-3", "contexts": ["garden"]}]  # of which the learner solves 0.6, and nothing of more operations
SAMPLING = {"problems": 6, "samples": 3, "keep": {"grader": "executable", "most_per_problem": 2, "validation_share": 0.25}}


def write_recipe(
    folder: Path, *, arms: bool = False, sampling: object = SAMPLING, base: str | None = "pretrain", config: str = "learn.yaml",
    **settings: object,
) -> Path:  # fmt: skip
    """Pre-training, then a stage that learns from its solutions; with `arms`, also one that learns from gold ones."""
    write_configs(folder)
    learner = minute_config("midtrain")
    learner["model"]["class_path"] = "simulated_policy.SimulatedLearner"
    learner["data"]["init_args"] |= {"batch_rows": 2, "mixture": MIXTURE}
    (folder / "learn.yaml").write_text(yaml.safe_dump(learner))
    own = {"rejection_sampling": sampling}
    stages = {"pretrain": {"config": "pretrain.yaml"}, "learn": {"config": config, "set": settings if arms else settings | own}}
    if base:
        stages["learn"]["init_from"] = base
    recipe = {"about": "A test.\n", "seeds": [0], "unseen": ["edge"], "stages": stages}
    if arms:
        recipe["arms"] = {"solutions": {"gold": {}, "own": {"learn": {"set": own}}}}
    (folder / "minute.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder / "minute.yaml"


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run without arms."""
    folder = tmp_path_factory.mktemp("rejection")
    assert main.main(["run", str(write_recipe(folder / "recipe")), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_solutions_are_those_of_the_parent_to_the_first_problems_of_training(finished):
    """Oracle: problem after problem as training draws them; none comes twice here."""
    samples = [*read_samples([finished / "learn/predict/samples/predict.jsonl"])]
    graph = yaml.safe_load((finished / "learn/config.yaml").read_text())["data"]["init_args"]["graph"]
    spec = GraphSpec(**{key: tuple(value) if isinstance(value, list) else value for key, value in graph.items()})
    source = Synthesis(Mixture([Component(**part) for part in MIXTURE]), spec, random_letters=False)
    expected = [source.example("train", i) for i in range(6)]
    assert len({example.problem for example in expected}) == 6
    assert [row["problem"] for row in samples] == [example.problem for example in expected for _ in range(3)]
    settings = json.loads((finished / "learn/predict/samples/predict.settings.json").read_text())
    assert settings["weights"] == json.loads((finished / "pretrain/huggingface/interplay.json").read_text())["weights"]


def test_rows_are_those_that_iterate_selects_from_the_same_samples(finished, tmp_path, monkeypatch):
    sampled, place = finished / "learn/predict", tmp_path / "op02/predict"
    monkeypatch.setattr(rejection_sampling, "run_stage", lambda command: shutil.copytree(sampled, place))
    monkeypatch.setattr(rounds, "_train", lambda *given: None)
    spec = rounds.ExpertIteration(
        finished / "learn/stage.yaml", str(finished), "2", 6, 3, gate=0.0, keep=Filter(**SAMPLING["keep"])
    )
    (current,) = rounds.run_rounds(spec, tmp_path, 0)
    found = json.loads((finished / "learn/rejection.json").read_text())
    for side in ("train", "validation"):
        kept = (finished / f"learn/{side}.jsonl").read_bytes()
        assert kept == (tmp_path / f"op02/{side}.jsonl").read_bytes()
        assert found[f"{side}_rows"] == kept.count(b"\n") > 0
    del found["compute"]
    assert found == {key: value for key, value in current.found.items() if key not in ("op", "passed", "asked")}


def test_it_trains_on_the_rows_and_is_tested_like_any_stage(finished):
    config = yaml.safe_load((finished / "learn/config.yaml").read_text())["data"]["init_args"]
    assert config["files"]["train"] == [str(finished / "learn/train.jsonl")]
    assert config["files"]["validation"] == [str(finished / "learn/validation.jsonl")]
    drawn = json.loads((finished / "learn/mixture.json").read_text())
    assert "edge" in json.loads((finished / "learn/test/pass_at_k.json").read_text())
    assert json.loads((finished / "learn/training.json").read_text())["steps"] == 4
    assert drawn["cells"] and {cell["op"] for cell in drawn["cells"]} <= {2, 3}


def test_the_ledger_counts_what_was_sampled(finished):
    """Oracle: each prompt once, and of each solution every token but the last."""
    samples, tokenizer = [*read_samples([finished / "learn/predict/samples/predict.jsonl"])], load_tokenizer("garden")
    prompts = {f"<question> {row['problem'].strip()} {row['question']} </question> <solution>" for row in samples}
    fed = sum(len(tokenizer(prompt)["input_ids"]) for prompt in prompts) + sum(row["tokens"] - 1 for row in samples)
    ledger = json.loads((finished / "learn/compute.json").read_text())
    assert ledger["phases"]["sampling"]["tokens"] == fed
    assert ledger["flops"] == sum(phase["flops"] for phase in ledger["phases"].values()) > ledger["phases"]["update"]["flops"]
    assert "sampling" in json.loads((finished / "compute.json").read_text())["total"]["tokens"]


def test_started_again_nothing_is_repeated(finished, tmp_path):
    stamps = {path: path.stat().st_mtime_ns for path in (finished / "learn").rglob("*.json*")}
    assert main.main(["run", str(write_recipe(tmp_path)), "--out", str(finished)]) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (finished / "learn").rglob("*.json*")}


def test_a_prediction_leaves_its_own_cost_not_that_of_the_training_that_it_reads(finished, tmp_path):
    """Oracle: the same samples of the same weights, read from a folder that knows nothing of training."""
    asked = ["predict", "--config", str(finished / "pretrain/stage.yaml"), "--trainer.default_root_dir"]
    found = {}
    for weights in ("checkpoints/last.ckpt", "huggingface"):
        assert main.main([*asked, str(tmp_path / weights), "--ckpt_path", str(finished / "pretrain" / weights)]) == 0
        found[weights] = json.loads((tmp_path / weights / "predict/compute_sums.json").read_text())
        assert found[weights].pop("seconds")["sampling"] > 0
    assert found["checkpoints/last.ckpt"] == found["huggingface"]
    assert found["huggingface"]["phases"].keys() == {"sampling"}


def _sample(folder: Path, config: str, weights: str, ops: str, world: int, problems: int) -> None:
    """Sample as a stage does, one problem a batch; of an odd number of problems, the last process of two has a repeat."""
    mixture = json.dumps([{"ops": ops, "contexts": ["garden"]}])
    devices = {"trainer.devices": world, "trainer.strategy": "ddp" if world > 1 else "auto"}
    asked = {
        **devices, "model.init_args.init_from": weights, "data.init_args.mixture": mixture, "trainer.default_root_dir": folder,
        "rejection_sampling": json.dumps(SAMPLING | {"problems": problems, "keep": {"validation_share": 0}}),
    }  # fmt: skip
    main.main(["sample", "--config", config, *(f"--{key}={value}" for key, value in asked.items()), "--traceback"])


@pytest.mark.long
def test_a_process_that_has_a_repeat_alone_sums_with_the_others(finished, tmp_path):
    """Oracle: one process; the second of two has no problem of its own."""
    found = []
    for world in (1, 2):
        place = (tmp_path / str(world), str(finished / "learn/stage.yaml"), str(finished / "pretrain/huggingface"))
        assert run(_sample, *place, "2", world, 1, world=world, patience=10) == [0] * world
        found.append(json.loads((place[0] / "rejection.json").read_text())["compute"]["phases"])
    assert found[0] == found[1]


def _refused(*place: object) -> None:
    with pytest.raises(ValueError, match=r"of 9 solutions none is left to train on \(0 accepted\)"):
        _sample(*place)


@pytest.mark.long
def test_with_nothing_to_learn_from_every_process_says_so_and_none_waits(finished, tmp_path):
    place = (tmp_path / "out", str(finished / "learn/stage.yaml"), str(finished / "pretrain/huggingface"))
    assert run(_refused, *place, "4", 2, 3, world=2, patience=60) == [0, 0]
    assert (place[0] / "train.jsonl").is_file() and not (place[0] / "rejection.json").exists()


@pytest.mark.long
def test_killed_while_it_samples_and_while_it_trains_it_ends_as_if_it_had_been_left_alone(finished, tmp_path):
    recipe, out = write_recipe(tmp_path / "recipe"), tmp_path / "out"
    kill_at(start(recipe, out), out, "learn/predict/samples/predict.jsonl", with_stage=True)
    kill_at(start(recipe, out), out, "learn/checkpoints/*.ckpt", with_stage=True)
    sampled = {path: path.stat().st_mtime_ns for path in (out / "learn").rglob("*.jsonl")}
    assert (out / "learn/rejection.json").is_file() and not (out / "learn/training.json").exists()
    assert start(recipe, out).wait(timeout=400) == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in sampled.items())
    assert numbers(out) == numbers(finished)
    assert rows(out / "learn/train.jsonl") == rows(finished / "learn/train.jsonl")


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["here", "debug"])
def test_arms_learn_from_gold_or_own_solutions_here_and_as_jobs(tmp_path, monkeypatch, capsys, launcher):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    command = ["run", str(write_recipe(tmp_path / "recipe", arms=True)), "--out", str(tmp_path / "out"), "--launcher", launcher]
    assert main.main([*command[:4], "--dry-run"]) == 0
    assert "own-seed0" in capsys.readouterr().out
    assert main.main(command) == 0
    gold, own = ([tmp_path / "out" / stage["folder"] for stage in arm["stages"]] for arm in json.loads(
        (tmp_path / "out/minute.json").read_text())["arms"])  # fmt: skip
    assert gold[0] == own[0] and gold[1] != own[1]
    assert (own[1] / "sample.log").is_file() and not (gold[1] / "predict").exists()
    assert json.loads((own[1] / "stage.json").read_text())["rejection_sampling"] == SAMPLING
    stamps = {path: path.stat().st_mtime_ns for path in own[1].rglob("*.json*")}
    assert main.main(command) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in own[1].rglob("*.json*")}


def test_what_is_sampled_is_part_of_the_stage_and_other_stages_keep_their_digest(tmp_path):
    def digest(sampling):
        return make_plan(load_recipe(write_recipe(tmp_path, sampling=sampling))).arms[0].stages[1].digest

    gold, own = (arm.stages for arm in make_plan(load_recipe(write_recipe(tmp_path, arms=True))).arms)
    assert digest(None) == gold[1].digest
    assert digest(SAMPLING) == own[1].digest
    asked = [SAMPLING, SAMPLING | {"problems": 7}, SAMPLING | {"samples": 4}, SAMPLING | {"keep": {"grader": "answer"}}, None]
    assert len({digest(sampling) for sampling in asked}) == 5


def test_the_plan_counts_what_is_sampled(tmp_path, capsys):
    """Oracle: prompts once and solutions `samples` times, forward; training as without."""
    gold, own = (arm.stages[1] for arm in make_plan(load_recipe(write_recipe(tmp_path, arms=True))).arms)
    model, lengths = architecture_of(own), workload(own).lengths
    prompts = forward_flops(model, tokens=6 * lengths.prompt, context=lengths.prompt / 2)
    response = min(lengths.response, own.config["model"]["init_args"]["evaluation"]["sampling"]["max_new_tokens"])
    sampled = forward_flops(model, tokens=18 * response, context=lengths.prompt + response / 2)
    assert estimate(own).flops == pytest.approx(estimate(gold).flops + prompts + sampled)
    assert estimate(own).tokens == estimate(gold).tokens
    assert main.main(["plan", str(tmp_path / "minute.yaml"), "--device", "h100"]) == 0
    assert capsys.readouterr().out.count("sampling  ") == 1
    assert main.main(["check", str(tmp_path / "minute.yaml")]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": None}, "no model to sample from (init_from: runs/quickstart_pretrain/huggingface); give the stage `init_from`"),
        ({"base": None, "config": "pretrain.yaml"}, "no model to sample from (init_from: None)"),
        ({"config": "grpo.yaml"}, "an RL stage samples by itself"),
        ({"sampling": {"problems": 6}}, "'samples'"), ({"sampling": SAMPLING | {"samples": 0}}, "samples=0"),
        ({"sampling": SAMPLING | {"keep": {"grader": "strict"}}}, "no grader 'strict'"),
        ({"sampling": SAMPLING | {"gate": 0.1}}, "'gate'"), ({"sampling": 5}, "got 5"),
        ({"data.init_args.files.train": ["rows.jsonl"]}, "set that, and no `files.train`"),
        ({"data.init_args.mixture": None, "data.init_args.files.train": ["rows.jsonl"]}, "come from the stage's `mixture`"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_learn_from_its_parent_is_refused_in_a_line(tmp_path, capsys, change, message):
    assert main.main(["run", str(write_recipe(tmp_path, **change)), "--out", str(tmp_path / "out"), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_without_its_parent_a_stage_says_so(tmp_path):
    stage = make_plan(load_recipe(write_recipe(tmp_path))).arms[0].stages[1]
    with pytest.raises(ValueError, match=r"learn: the model whose solutions it learns from is not there \(.*huggingface\)"):
        StageFolders(tmp_path / "out", plain=True).finish(stage)


def test_a_model_that_solves_nothing_leaves_nothing_to_learn_from(finished, tmp_path, capsys):
    """The learner solves no problem of four operations."""
    hard = {"data.init_args.mixture": [{"ops": "4", "contexts": ["garden"]}]}
    shutil.copytree(finished / "pretrain", tmp_path / "out/pretrain")
    assert main.main(["run", str(write_recipe(tmp_path / "recipe", **hard)), "--out", str(tmp_path / "out")]) == 2
    assert "of 18 solutions none is left to train on (0 accepted)" in capsys.readouterr().err
    assert not (tmp_path / "out/learn/rejection.json").exists()
