"""The recipe runner, end to end with a minute model."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

import main
from callbacks.evaluation.sample_files import read_samples
from datamodules.problems.splits import canonical_hash
from grammar import parse_problem
from lightning_modules.models.language_model import load_language_model
from recipes.planning.recipe import load_recipe
from recipes.running.result_tables import result_table
from tests_support import TINY

ROOT = Path(__file__).parent.parent
STAGES = ("pretrain", "midtrain", "grpo")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The quickstart's recipe with two steps a stage; returns its folder and the recipe's path."""
    folder = tmp_path_factory.mktemp("experiment")
    recipe = {"about": "A test.\n", "stages": {}}
    for before, stage in zip((None, *STAGES), STAGES, strict=False):
        source = ROOT / f"configs/experiment/quickstart_{stage}.yaml"
        config = yaml.safe_load(source.read_text())
        for part in ("model", "data"):
            config[part] = yaml.safe_load((source.parent / config[part]).read_text())
        config["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "enable_progress_bar": False, "log_every_n_steps": 1}
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        model["evaluation"] = {"samples": 8, "sampling": {"max_new_tokens": 6}}
        data["held_out"] |= {"problems": 4}
        if stage == "pretrain":
            model["architecture"] = TINY
        if stage == "grpo":
            model["sampling"]["max_new_tokens"] = 6
            data["prompts_per_rollout"] = 2
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        recipe["stages"][stage] = {"config": f"{stage}.yaml"} | ({"init_from": before} if before else {})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert main.main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--seed", "3"]) == 0
    return folder


def test_every_stage_leaves_its_files(experiment):
    for stage in STAGES:
        run = experiment / "out" / stage
        for name in ("config.yaml", "environment.json", "metrics.csv", "training.json", "huggingface/model.safetensors",
                     "compute.json", "huggingface/tokenizer.json", "checkpoints/last.ckpt", "test/pass_at_k.json",
                     "test/evaluation.json", "test/samples/test.jsonl"):  # fmt: skip
            assert (run / name).is_file(), f"{stage}/{name}"
        assert list(run.glob("events.out.tfevents*"))
        assert not list(run.rglob("*.part"))
    assert (experiment / "out/curves.png").stat().st_size > 10_000


def test_bands_keep_the_order_in_which_a_config_names_them(experiment):
    for stage in STAGES:
        scores = json.loads((experiment / "out" / stage / "test/pass_at_k.json").read_text())
        assert list(scores)[:4] == ["ID", "edge", "beyond", "hard"]


@pytest.mark.long
def test_a_folder_of_another_seed_is_refused(experiment, capsys):
    command = ["run", str(experiment / "recipe.yaml"), "--out", str(experiment / "out")]
    assert main.main([*command, "--seed", "4"]) == 2
    assert f"{experiment / 'out/pretrain'} was made with another seed" in capsys.readouterr().err
    assert main.main([*command, "--seed", "3"]) == 0
    assert "Seed 3." in capsys.readouterr().out
    for seed, complete in (("3", len(STAGES)), ("4", 0)):
        assert main.main([*command, "--seed", seed, "--dry-run"]) == 0
        assert capsys.readouterr().out.count(" complete ") == complete


def test_stages_start_from_one_another_with_the_given_seed(experiment):
    config = yaml.safe_load((experiment / "out/grpo/config.yaml").read_text())
    assert config["model"]["init_args"]["init_from"] == str(experiment / "out/midtrain/huggingface")
    assert config["seed_everything"] == config["data"]["init_args"]["seed"] == 3


def test_all_stages_are_tested_on_the_same_problems_and_none_is_trained_on(experiment):
    def problems(stage):
        rows = read_samples([experiment / f"out/{stage}/test/samples/test.jsonl"])
        return {(row["problem"], row["question"]) for row in rows}

    tested = problems("pretrain")
    assert len(tested) == 16
    assert all(problems(stage) == tested for stage in STAGES)
    assert {json.loads(line)["id"].split("-")[0] for line in (experiment / "out/grpo/test/samples/test.jsonl").open()} == {"test"}
    assert len({canonical_hash(parse_problem(*problem, modulus=10)) for problem in tested}) == 16


def test_the_table_is_made_from_the_samples(experiment):
    """Oracle: pass@1 is the plain mean over samples."""
    table = result_table(experiment / "out", list(STAGES))
    for stage in STAGES:
        rows = [json.loads(line) for line in (experiment / f"out/{stage}/test/samples/test.jsonl").open()]
        passes = json.loads((experiment / f"out/{stage}/test/pass_at_k.json").read_text())
        for op in {row["op"] for row in rows}:
            right = [row["accepted"]["answer"] for row in rows if row["op"] == op]
            assert passes[f"op{op}"]["answer"]["pass@1"]["mean"] == pytest.approx(sum(right) / len(right))
        assert f"{json.loads((experiment / f'out/{stage}/training.json').read_text())['tokens'] / 1e6:.2f}M" in table
    assert [line.split()[0] for line in table.splitlines()[2::4]] == list(STAGES)


def test_verify_judges_the_samples_as_the_run_did(experiment, tmp_path, capsys):
    samples = experiment / "out/pretrain/test/samples/test.jsonl"
    for grader in ("answer", "executable"):
        assert main.main(["verify", str(samples), "--grader", grader, "--out", str(tmp_path / "verdicts.jsonl")]) == 0
        verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").open()]
        rows = [json.loads(line) for line in samples.open()]
        assert [v["accepted"] for v in verdicts] == [row["accepted"][grader] for row in rows]
        assert all(v["basis"] == "problem" and v["well_posed"] for v in verdicts)  # the context's modulus is known


def test_logged_metrics_cover_loss_reward_and_throughput(experiment):
    with (experiment / "out/grpo/metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    assert {"train/loss", "train/reward", "train/reward/strict", "train/executable", "train/tokens_per_s"} <= columns


def test_the_ledger_holds_every_phase_of_every_stage(experiment):
    found = json.loads((experiment / "out/compute.json").read_text())["stages"]
    for stage in ("pretrain", "midtrain"):
        tokens = json.loads((experiment / f"out/{stage}/training.json").read_text())["tokens"]
        assert found[stage]["phases"].keys() == {"update"}
        assert found[stage]["phases"]["update"]["tokens"] == tokens
        assert found[stage]["nominal_tokens"] == 2 * 16 * 256  # steps x rows x tokens of a row
    assert found["grpo"]["phases"].keys() == {"rollout", "update"}
    assert found["grpo"]["nominal_tokens"] == pytest.approx(4 / 3 * 2 * 2 * 8 * TINY["max_position_embeddings"])


def test_the_exported_folder_opens_and_equals_the_checkpoint(experiment):
    run = experiment / "out/grpo"
    exported = AutoModelForCausalLM.from_pretrained(run / "huggingface")
    kept, back = (load_language_model(str(run / name)) for name in ("checkpoints/last.ckpt", "huggingface"))
    assert exported.config.model_type == "llama" and back.config.to_dict() == kept.config.to_dict()
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), kept.parameters(), strict=True))
    tokens = torch.arange(40)[None]
    assert torch.equal(exported(tokens).logits, kept(tokens).logits)
    assert AutoTokenizer.from_pretrained(run / "huggingface").convert_tokens_to_ids("</answer>") == 9


def test_tensorboard_has_scalars_and_sample_texts(experiment):
    events = EventAccumulator(str(experiment / "out/grpo/test"))
    events.Reload()
    assert "test/executable/pass@1/ID" in events.Tags()["scalars"]
    texts = [tag for tag in events.Tags()["tensors"] if tag.startswith("samples/")]
    assert len(texts) == 4
    shown = events.Tensors(texts[0])[0].tensor_proto.string_val[0].decode()
    assert "✗" in shown and "How many" in shown


def test_started_again_it_does_nothing_twice(experiment):
    stamps = {path: path.stat().st_mtime_ns for path in (experiment / "out").rglob("*.json")}
    assert main.main(["run", str(experiment / "recipe.yaml"), "--out", str(experiment / "out"), "--seed", "3"]) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (experiment / "out").rglob("*.json")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: 3", "stages"), ("stages: {a: {confg: x}}", "confg"), ("stages: {a: {config: nowhere.yaml}}", "nowhere"),
        ("stages: {a: {config: r.yaml, init_from: b}}", "'b'"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_refused(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_the_quickstart_recipe_loads():
    assert [stage.name for stage in load_recipe(ROOT / "configs/recipe/quickstart.yaml").stages] == list(STAGES)
