"""Expert iteration: what is kept of samples, and rounds that follow one another, also after a kill."""

import json
from collections import Counter
from random import Random

import pytest
import torch
import yaml
from processes import run
from test_resume import ROOT

import main
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Component, Mixture
from datamodules.problems.splits import canonical_hash
from datamodules.problems.synthesis import Synthesis
from grammar import parse_problem
from lightning_modules.models.language_model import build_language_model, load_language_model
from recipes.expert_iteration.rounds import load
from recipes.rejection.accepted import Filter, as_solution, select, set_apart
from tests_support import PLAIN, TINY

EXAMPLES = Synthesis(Mixture([Component("2-8", ["movie_festival_awards", "crazy_zootopia"], MODES)]), GraphSpec())


def test_a_response_becomes_the_solution_that_it_was_written_from():
    for index in range(200):
        example = EXAMPLES.example("train", index)
        assert as_solution(example.response) == example.solution


@pytest.mark.parametrize(
    "response",
    [
        " Define roses as A; so A = 3.", " Define roses as A; so A = 3. </solution> <answer> 3", " so A. <answer> 3 </answer>",
        " Define roses as A; so A = 3. </solution> <answer> three </answer>", " </solution> <answer> 3 </answer> and more",
        " so A = 3. </solution> <answer> 3 </answer> </answer>",
    ],
)  # fmt: skip
def test_a_response_of_another_form_is_no_solution(response):
    assert as_solution(response) is None


def made_up_samples(seed):
    rng, rows = Random(seed), []
    for index in range(12):
        for sample in range(6):
            word = rng.choice("abc")
            response = f" {word}. </solution> <answer> 3 </answer>" if rng.random() < 0.8 else f" {word}. "
            rows.append(
                {
                    "index": index, "sample": sample, "id": f"p{index}", "op": 5, "template": "garden", "mode": "normalforward",
                    "modulus": 5, "problem": f"problem {index}. ", "question": "How many?", "response": response,
                    "accepted": {"answer": rng.random() < 0.7, "executable": rng.random() < 0.4},
                }
            )  # fmt: skip
    return rows


@pytest.mark.parametrize("grader", ["answer", "executable"])
@pytest.mark.parametrize("most", [None, 1, 2])
def test_what_is_kept_is_what_a_plain_reading_of_the_rules_keeps(grader, most):
    """Oracle: the rules one after the other, each over all samples."""
    for seed in range(5):
        samples = made_up_samples(seed)
        rows, counts = select(samples, Filter(grader, most))
        accepted = [s for s in samples if s["accepted"][grader]]
        formed = [s for s in accepted if s["response"].endswith("</answer>")]
        first = [
            s
            for i, s in enumerate(formed)
            if (s["index"], s["response"]) not in {(t["index"], t["response"]) for t in formed[:i]}
        ]
        rank = [sum(t["index"] == s["index"] for t in first[:i]) for i, s in enumerate(first)]
        left = [s for s, n in zip(first, rank, strict=True) if most is None or n < most]
        assert all(row["modulus"] == 5 for row in rows)
        assert sorted(row["id"] for row in rows) == sorted(f"{s['id']}-sample{s['sample']}" for s in left)
        assert counts["pass@1"] == len(accepted) / len(samples)
        assert counts["malformed"] == len(accepted) - len(formed)
        assert len(accepted) == counts["malformed"] + counts["duplicates"] + counts["surplus"] + len(rows)
        assert counts["solved_problems"] == len({s["index"] for s in left}) and counts["problems"] == 12


def test_no_problem_stands_on_both_sides_and_none_is_lost():
    rows, _ = select(made_up_samples(0), Filter("answer", None))
    train, validation = set_apart(rows, 0.25)
    texts = [{row["problem"] for row in side} for side in (train, validation)]
    assert not texts[0] & texts[1]
    assert (len(texts[0]), len(texts[1])) == (9, 3)
    assert Counter(row["id"] for row in train + validation) == Counter(row["id"] for row in rows)
    assert set_apart(rows[::-1], 0.25)[1] == validation[::-1]
    assert set_apart(rows, 0.0) == (rows, [])


@pytest.fixture
def begin(tmp_path):
    """Write a file of a minute experiment; returns the command that runs it."""
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    config = {
        "trainer": {
            "accelerator": "cpu", "devices": 1, "max_steps": 4, "log_every_n_steps": 1, "enable_progress_bar": False,
            "enable_model_summary": False, "val_check_interval": 2, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0,
        },
        "model": {
            "class_path": "simulated_policy.SimulatedLearner",
            "init_args": {"init_from": "nowhere", "evaluation": {"samples": 2, "sampling": {"max_new_tokens": 4}}},
        },
        "data": {
            "class_path": "datamodules.MidtrainDataModule",
            "init_args": {
                "mixture": [{"ops": "2", "contexts": ["garden"]}], "tokenizer": "garden", "row_length": 128, "batch_rows": 2,
                "random_letters": False, "graph": {"distractors": list(PLAIN.distractors)}, "loss_on": "solution",
                "validation_batches": 1,
                "held_out": {
                    "bands": {"ID": "2-3", "edge": "4"}, "contexts": ["garden"], "problems": 4, "validation_problems": 2,
                },
            },
        },
        "checkpoint": {"every_n_train_steps": 1},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))

    def command(name, **more):
        spec = {
            "config": "config.yaml", "start_from": str(tmp_path / "start"), "ops": "2-5", "problems": 8, "samples": 3,
            "gate": 0.2, "keep": {"validation_share": 0.25}, **more,
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
        return ["iterate", str(tmp_path / f"{name}.yaml"), "--out", str(tmp_path / name.partition("-")[0])]

    return command


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    return torch.cat([p.detach().flatten() for p in load_language_model(str(folder / "huggingface")).parameters()])


def iterate(arguments):
    assert main.main(arguments) == 0


def test_rounds_go_on_while_the_gate_holds_and_learn_what_was_accepted(begin, tmp_path, capsys):
    iterate(begin("run", ops="3-5"))
    shown, folder = capsys.readouterr().out, tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["op03", "op04"]
    assert [(folder / f"op{op:02d}/training.json").is_file() for op in (3, 4)] == [True, False]
    assert "The gate closed at op 4" in shown
    assert [line.split()[0] for line in shown.splitlines()[-3:-1]] == ["3", "4"]

    sides = {name: rows(folder / f"op03/{name}.jsonl") for name in ("train", "validation")}
    hashes = {
        n: {canonical_hash(parse_problem(r["problem"], r["question"], modulus=5)) for r in side} for n, side in sides.items()
    }
    assert hashes["train"] and hashes["validation"] and not hashes["train"] & hashes["validation"]
    assert all(row["id"].startswith("train-") for side in sides.values() for row in side)
    found = json.loads((folder / "op03/round.json").read_text())
    samples = rows(folder / "op03/predict/samples/predict.jsonl")
    assert len(samples) == 8 * 3 and {row["op"] for row in samples} == {3}
    assert found["pass@1"] == sum(row["accepted"]["executable"] for row in samples) / 24
    verdicts = tmp_path / "verdicts.jsonl"
    assert main.main(["verify", str(folder / "op03/train.jsonl"), "--grader", "executable", "--out", str(verdicts)]) == 0
    assert all(row["accepted"] for row in rows(verdicts))
    sampled = json.loads((folder / "op03/predict/compute_sums.json").read_text())["phases"]["sampling"]
    ledger = json.loads((folder / "op03/compute.json").read_text())["phases"]
    assert ledger["sampling"]["tokens"] == sampled[0] > 0 and ledger["update"]["tokens"] > 0
    assert "val/loss" in (folder / "op03/metrics.csv").read_text().splitlines()[0]


def test_a_model_that_was_trained_otherwise_is_refused(begin, tmp_path, capsys):
    iterate(begin("run", ops="3", settings={"trainer.max_steps": 2}))
    iterate(begin("run", ops="3", settings={"trainer.max_steps": 2, "trainer.accelerator": "auto"}))
    assert main.main(begin("run", ops="3", settings={"trainer.max_steps": 3})) == 2
    assert f"{tmp_path}/run/op03 holds a model that was trained otherwise" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/op03/training.json").read_text())["steps"] == 2


@pytest.mark.long
@pytest.mark.parametrize("alone", [False, True])
def test_rounds_start_over_on_all_rows_or_go_on_with_their_own(begin, tmp_path, alone):
    iterate(begin("run", restart=not alone, union=not alone, ops="2,3"))
    folder = tmp_path / "run"
    second = yaml.safe_load((folder / "op03/config.yaml").read_text())
    source = folder / "op02/huggingface" if alone else tmp_path / "start"
    assert second["model"]["init_args"]["init_from"] == str(source)
    used = (3,) if alone else (2, 3)
    assert second["data"]["init_args"]["files"]["train"] == [str(folder / f"op{op:02d}/train.jsonl") for op in used]
    assert not torch.equal(weights(folder / "op03"), weights(folder / "op02"))
    sampled = json.loads((folder / "op03/predict/samples/predict.settings.json").read_text())["weights"]
    assert sampled != json.loads((folder / "op02/predict/samples/predict.settings.json").read_text())["weights"]


@pytest.mark.long
def test_a_killed_experiment_goes_on_bit_for_bit_and_repeats_nothing(begin, tmp_path):
    killer = {"class_path": "killer.Killer", "init_args": {"moment": "batch", "updates": 3}}
    assert run(iterate, begin("whole")) == [0]
    assert run(iterate, begin("killed-1", settings={"trainer.callbacks": [killer]})) == [-9]
    folder = tmp_path / "killed/op02"
    assert (folder / "round.json").is_file() and not (folder / "training.json").exists()
    sampled = (folder / "predict/samples/predict.jsonl").stat().st_mtime_ns
    assert run(iterate, begin("killed-2")) == [0]
    assert (folder / "predict/samples/predict.jsonl").stat().st_mtime_ns == sampled
    for op in ("op02", "op03"):
        assert torch.equal(weights(tmp_path / "whole" / op), weights(tmp_path / "killed" / op))
        assert rows(tmp_path / "whole" / op / "train.jsonl") == rows(tmp_path / "killed" / op / "train.jsonl")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*.json*")}
    assert run(iterate, begin("killed-2")) == [0]
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*.json*")}


@pytest.mark.long
def test_two_processes_keep_the_rows_of_one(begin, tmp_path):
    """Samples of a problem depend on the weights and the problem alone; in the first round the weights are the same."""
    assert run(iterate, begin("one", ops="2")) == [0]
    two = begin("two", ops="2", settings={"trainer.devices": 2, "trainer.strategy": "ddp"})
    assert run(iterate, two, world=2) == [0, 0]
    kept = [rows(tmp_path / name / "op02/train.jsonl") for name in ("one", "two")]
    assert kept[0] and sorted(kept[0], key=str) == sorted(kept[1], key=str)
    found = [json.loads((tmp_path / name / "op02/round.json").read_text()) for name in ("one", "two")]
    assert {**found[0], "asked": ""} == {**found[1], "asked": ""}
    assert all((tmp_path / "two/op02" / name).is_file() for name in ("training.json", "test/pass_at_k.json"))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("*.json*")}
    assert run(iterate, two, world=2) == [0, 0]  # nothing is left to do
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("*.json*")}


def test_the_shipped_experiment_loads():
    spec = load(ROOT / "configs/expert_iteration/quickstart.yaml")
    assert spec.config.name == "quickstart_midtrain.yaml" and spec.keep == Filter("executable", 4, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opps": "2"}, "opps"), ({"config": "nowhere.yaml"}, "nowhere.yaml"), ({"keep": {"grade": "paper"}}, "grade"),
        ({"ops": "5-2"}, "5-2"), ({"samples": 0}, "samples"), ({"keep": {"validation_share": 1.0}}, "validation_share"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(begin, change, message):
    with pytest.raises(ValueError, match=message):
        main.main([*begin("bad", **change), "--traceback"])
