"""`validate` and `test`: what they write equals what an independent script computes from the samples."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from math import comb
from pathlib import Path
from statistics import fmean

import pytest
import torch
import yaml
from simulated_model import SimulatedModule

import main
from callbacks.evaluation.sample_files import read_samples
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

ROOT = Path(__file__).parent.parent
BANDS = {"ID": "2-4", "edge": "5-6", "hard": "8"}
SAMPLES, PROBLEMS = 6, 7
WEIGHTS = {"2": 0.2, "3-4": 0.8}


@pytest.fixture
def config(tmp_path):
    """An evaluation of 21 problems: two processes do not get equally many."""
    text = yaml.safe_load((ROOT / "configs/experiment/quickstart_pretrain.yaml").read_text())
    data = yaml.safe_load((ROOT / "configs/data/quickstart_pretrain.yaml").read_text())
    data["init_args"]["held_out"] = {
        "bands": BANDS, "contexts": ["garden"], "problems": PROBLEMS, "validation_problems": 3, "batch_size": 3,
    }  # fmt: skip
    text["data"] = data
    text["trainer"] |= {"enable_progress_bar": False, "default_root_dir": str(tmp_path / "run"), "precision": "32-true"}
    text["pass_at_k"] = {"weighted": {"ID weighted": WEIGHTS}, "resamples": 200}
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    text["model"] = {
        "class_path": "simulated_model.SimulatedModule",
        "init_args": {"init_from": str(tmp_path / "start"), "evaluation": {"samples": SAMPLES, "seed": 1, "released": True}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(text))
    return tmp_path / "config.yaml"


@pytest.fixture(autouse=True)
def uninterrupted():
    SimulatedModule.batches, SimulatedModule.stop_after = 0, None
    yield
    SimulatedModule.batches, SimulatedModule.stop_after = 0, None


def evaluate(config: Path, *arguments: str, command: str = "test") -> Path:
    assert main.main([command, "--config", str(config), *arguments]) == 0
    return config.parent / "run" / command


def rows_of(folder: Path) -> list[dict]:
    stage = folder.name
    files = [path for path in (folder / "samples").glob("*.jsonl") if path.name.split(".")[0] == stage]
    return list(read_samples(files))


def recompute(rows: list[dict]) -> dict:
    """Oracle: plain Python over sample rows; pass@k by binomial coefficients."""
    problems = defaultdict(list)
    for row in rows:
        problems[row["index"]].append(row)
    found = {"problems": len(problems), "samples": len(rows)}
    for grader in ("answer", "paper", "executable", "released"):
        for k in (1, 2, 4, 6):
            values = []
            for group in problems.values():
                n, c = len(group), sum(row["accepted"][grader] for row in group)
                values.append(1 - comb(n - c, k) / comb(n, k))
            found[f"{grader} pass@{k}"] = fmean(values)
    found["process_accuracy"] = fmean(fmean(row["report"]["process_accuracy"] for row in g) for g in problems.values())
    kinds = ("syntax", "missing", "value", "parents", "arithmetic", "letters", "ungrounded", "equation", "answer")
    found |= {
        f"error {kind}": fmean(any(error["kind"] == kind for error in row["report"]["errors"]) for row in rows) for kind in kinds
    }
    nodes = [node["status"] for row in rows for node in row["report"]["nodes"]]
    found |= {f"node {s}": nodes.count(s) / len(nodes) for s in ("correct", "missing", "wrong_value")}
    found |= recompute_disagreements(rows)
    return found | {
        "tokens": fmean(row["tokens"] for row in rows), "finished": fmean(row["response"].endswith("</answer>") for row in rows),
    }  # fmt: skip


def recompute_disagreements(rows: list[dict]) -> dict:
    """Oracle: the cause of each disagreement, one sample at a time; the causes of a pair add up to its difference."""
    found = {f"answer, not paper: {fault}": 0.0 for fault in ("missing", "parents", "values")}
    for row in rows:
        statuses = [node["status"] for node in row["report"]["nodes"]]
        cause = (
            "missing"
            if "missing" in statuses
            else "parents"
            if any("parents" in s or "both" in s for s in statuses)
            else "values"
        )
        found[f"answer, not paper: {cause}"] += (row["accepted"]["answer"] and not row["accepted"]["paper"]) / len(rows)
        if row["accepted"]["paper"] and not row["accepted"]["executable"]:
            key = f"paper, not executable: {row['report']['errors'][0]['kind']}"
            found[key] = found.get(key, 0.0) + 1 / len(rows)
        for a, b in (("released", "paper"), ("paper", "released")):
            key = f"released: {a}, not {b}"
            found[key] = found.get(key, 0.0) + (row["accepted"][a] and not row["accepted"][b]) / len(rows)
    return found


def reported(grades: dict) -> dict:
    """The same numbers as evaluation.json has them."""
    found = {"problems": grades["problems"], "samples": grades["samples"]}
    for grader in ("answer", "paper", "executable", "released"):
        found |= {f"{grader} {key}": value["mean"] for key, value in grades[grader].items()}
    found["process_accuracy"] = grades["process_accuracy"]["mean"]
    found |= {f"error {kind}": share for kind, share in grades["errors"].items()}
    found |= {f"node {s}": grades["nodes"][s] for s in ("correct", "missing", "wrong_value")}
    for pair, causes in grades["disagreements"].items():
        found |= {f"{pair}: {cause}": share for cause, share in causes.items() if share or "executable" not in pair}
    return found | {"tokens": grades["response_tokens"], "finished": grades["finished"]}


def check_against_samples(folder: Path, problems: int = PROBLEMS) -> None:
    rows = rows_of(folder)
    assert sorted((row["index"], row["sample"]) for row in rows) == [
        (i, s) for i in range(3 * problems) for s in range(SAMPLES)
    ]  # every sample once, whichever process took it
    grades = json.loads((folder / "evaluation.json").read_text())["grades"]
    bands = {"ID": (2, 3, 4), "edge": (5, 6), "hard": (8,)}
    assert reported(grades["all"]["all"]) == pytest.approx(recompute(rows))
    for name, ops in bands.items():
        assert reported(grades["band"][name]) == pytest.approx(recompute([row for row in rows if row["op"] in ops]))
    for op in {row["op"] for row in rows}:
        expected = pytest.approx(recompute([row for row in rows if row["op"] == op]))
        assert reported(grades["op"][str(op)]) == expected
        assert reported(grades["cell"][f"{op}/garden/normalforward"]) == expected
    for key, name in (("context", "garden"), ("mode", "normalforward")):
        assert reported(grades[key][name]) == reported(grades["all"]["all"])
    easy, rest = (recompute([row for row in rows if row["op"] in ops]) for ops in ((2,), (3, 4)))
    weighted = reported(grades["band"]["ID weighted"])
    for key in ("paper pass@1", "executable pass@4", "process_accuracy", "tokens"):
        assert weighted[key] == pytest.approx(0.2 * easy[key] + 0.8 * rest[key])
    assert 0 < grades["all"]["all"]["executable"]["pass@1"]["mean"] < grades["all"]["all"]["answer"]["pass@1"]["mean"] < 1
    passes = json.loads((folder / "pass_at_k.json").read_text())
    assert passes["ID"]["paper"] == grades["band"]["ID"]["paper"]
    assert passes["op5"]["answer"] == grades["op"]["5"]["answer"]


def test_numbers_equal_those_recomputed_from_the_samples(config, capsys):
    folder = evaluate(config)
    check_against_samples(folder)
    passes = json.loads((folder / "pass_at_k.json").read_text())
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("edge"))
    assert line.split()[1:4] == ["7", "x", "6"]
    assert f"{passes['edge']['executable']['pass@1']['mean']:.3f} [" in line


def test_validate_writes_the_same_files(config):
    check_against_samples(evaluate(config, command="validate"), problems=3)


@pytest.mark.long
def test_two_processes_count_every_problem_once(config, tmp_path):
    run = [sys.executable, str(ROOT / "main.py"), "test", "--config", str(config), "--trainer.devices", "2"]
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    environment.pop("LOCAL_RANK", None)
    done = subprocess.run(
        [*run, "--trainer.strategy", "ddp"], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = config.parent / "run/test"
    assert {path.name for path in (folder / "samples").glob("*.jsonl")} == {"test.jsonl", "test.rank1.jsonl"}
    check_against_samples(folder)
    both = json.loads((folder / "evaluation.json").read_text())
    recalled = json.loads((evaluate(config) / "evaluation.json").read_text())  # one process takes over what two have kept
    assert SimulatedModule.batches == 0
    assert both["grades"] == recalled["grades"]
    assert both["skills"] == recalled["skills"]
    assert both["likelihood"]["all"]["all"] == pytest.approx(recalled["likelihood"]["all"]["all"], rel=1e-5)


def test_an_interrupted_evaluation_goes_on_where_it_stopped(config):
    whole = evaluate(config)
    expected, samples = json.loads((whole / "evaluation.json").read_text()), (whole / "samples/test.jsonl").read_bytes()
    batches = SimulatedModule.batches
    whole.rename(whole.with_name("whole"))
    SimulatedModule.batches, SimulatedModule.stop_after = 0, 2
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        evaluate(config)
    with (whole / "samples/test.jsonl").open("ab") as file:
        file.write(samples[:5000])  # half a batch that a crash left behind
    assert not (whole / "evaluation.json").exists()
    SimulatedModule.batches, SimulatedModule.stop_after = 0, None
    found = json.loads((evaluate(config) / "evaluation.json").read_text())
    assert SimulatedModule.batches == batches - 2
    assert (whole / "samples/test.jsonl").read_bytes() == samples
    assert found["grades"] == expected["grades"]
    assert found["topology"] == expected["topology"]


def test_other_settings_start_afresh(config):
    folder = evaluate(config)
    before = SimulatedModule.batches
    evaluate(config)
    assert SimulatedModule.batches == before
    evaluate(config, "--model.init_args.evaluation.seed", "2")
    assert SimulatedModule.batches == 2 * before
    other = config.parent / "other"
    torch.manual_seed(5)
    build_language_model(TINY).save_pretrained(other)
    evaluate(config, "--model.init_args.init_from", str(other), "--model.init_args.evaluation.seed", "2")
    assert SimulatedModule.batches == 3 * before
    check_against_samples(folder)


def test_a_checkpoint_a_folder_of_them_and_a_hugging_face_folder_are_evaluated(config, tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "huggingface")
    text = yaml.safe_load(config.read_text())
    text["trainer"] |= {"max_steps": 4, "limit_val_batches": 0}
    text["checkpoint"] = {"every_n_train_steps": 2, "save_top_k": -1}
    text["data"]["init_args"] |= {"batch_rows": 1}
    config.write_text(yaml.safe_dump(text))
    assert main.main(["fit", "--config", str(config)]) == 0
    run = config.parent / "run"
    short = ["--data.init_args.held_out.problems", "2"]
    evaluate(config, "--ckpt_path", str(run), *short)
    rows = json.loads((run / "test/trajectory.json").read_text())
    assert [row["step"] for row in rows] == [2, 4]
    weights = set()
    for row in rows:
        found = json.loads((run / f"test/step{row['step']:07d}/evaluation.json").read_text())
        assert row["grades"]["band"] == found["grades"]["band"]
        weights.add(found["settings"]["weights"])
    evaluate(config, f"--ckpt_path={run}/checkpoints/last.ckpt", *short)
    assert json.loads((run / "test/evaluation.json").read_text())["settings"]["weights"] in weights
    evaluate(config, "--ckpt_path", str(tmp_path / "huggingface"), *short)
    assert json.loads((run / "test/evaluation.json").read_text())["settings"]["weights"] not in weights
    assert main.main(["test", "--config", str(config), "--ckpt_path", str(tmp_path)]) == 2


def test_a_file_of_samples_holds_each_problem_once(config, tmp_path, capsys):
    path = evaluate(config) / "samples/test.jsonl"
    written = [json.loads(line) for line in path.read_text().splitlines()]
    texts = {
        row["index"]: {key: row[key] for key in ("problem", "question", "solution")} for row in written if row["sample"] == 0
    }
    assert len(texts) < len(written)
    for row in written:
        assert (row.keys() & {"problem", "question", "solution"} == set()) == (row["sample"] > 0)
    assert list(read_samples([path])) == [{**row, **texts[row["index"]]} for row in written]
    (tmp_path / "whole.jsonl").write_text("".join(json.dumps({**row, **texts[row["index"]]}) + "\n" for row in written))
    verdicts = []
    for file, workers in ((path, "1"), (path, "2"), (tmp_path / "whole.jsonl", "1")):
        assert main.main(["verify", str(file), "--out", str(tmp_path / "verdicts.jsonl"), "--workers", workers]) == 0
        verdicts.append((tmp_path / "verdicts.jsonl").read_text())
    assert verdicts[0] == verdicts[1] == verdicts[2]


@pytest.mark.parametrize("grader", ["answer", "paper", "executable"])
def test_a_file_of_samples_is_judged_as_the_run_judged_them(config, tmp_path, grader):
    path = evaluate(config) / "samples/test.jsonl"
    written = [json.loads(line)["accepted"][grader] for line in path.read_text().splitlines()]
    assert {*written} == {True, False}
    out = tmp_path / "verdicts.jsonl"
    assert main.main(["verify", str(path), "--grader", grader, "--out", str(out)]) == 0
    assert [json.loads(line)["accepted"] for line in out.read_text().splitlines()] == written


def test_a_broken_first_row_costs_the_rows_of_its_problem_only(tmp_path, capsys):
    lines = [
        '{"index": 0, "sample": 0, "problem": "x', '{"index": 0, "sample": 1, "response": "y"}',
        '{"index": 1, "sample": 0, "problem": "The number of a in Z equals 3.", "question": "How many a does Z have?", '
        '"response": ""}',
        '{"index": 1, "sample": 1, "response": "Define a in Z as B; so B = 3. <answer> 3 </answer>"}',
        '{"problem": "The number of a in Z equals 4.", "question": "How many a does Z have?", "response": ""}',
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert main.main(["verify", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 1
    assert [json.loads(line)["accepted"] for line in (tmp_path / "out.jsonl").open()] == [False, True, False]
    assert "line 1: not judged" in (told := capsys.readouterr().err) and "line 2: not judged" in told


def test_problems_from_files_are_evaluated(config, tmp_path):
    evaluate(config)
    rows = {row["index"]: row for row in rows_of(config.parent / "run/test")}
    keys = ("problem", "question", "solution", "op", "template", "mode")
    written = [{key: row[key] for key in keys} for row in rows.values() if row["op"] == 3]
    bare = [{"problem": row["problem"], "question": row["question"], "modulus": 5} for row in rows.values() if row["op"] == 5]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in (*written, *bare)))
    folder = evaluate(config, "--data.init_args.held_out.files", json.dumps([str(tmp_path / "mine.jsonl")]))
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["grades"]["context"]["garden"]["problems"] == len(written)
    assert found["grades"]["context"]["mine"]["problems"] == len(bare)
    assert found["grades"]["op"].keys() == {"3", "5"}
    assert found["likelihood"].keys() >= {"op3"}
    (tmp_path / "mine.jsonl").write_text('{"problem": "Nonsense."}\n')
    assert main.main(["test", "--config", str(config), "--data.init_args.held_out.files", f"[{tmp_path}/mine.jsonl]"]) == 2


def test_skills_and_likelihood_are_there_by_band_and_op(config):
    found = json.loads((evaluate(config) / "evaluation.json").read_text())
    assert found["skills"]["ID"]["atomic"]["given"]["trials"] > 0
    assert any(" > " in name for name in found["skills"]["all"]["composed"])
    assert found["likelihood"]["op2"].keys() == {"name", "letter", "operand", "result", "other", "all"}
    uniform = torch.tensor(float(TINY["vocab_size"])).log().item()
    assert found["likelihood"]["all"]["all"]["nll_nats"] == pytest.approx(uniform, rel=0.05)  # fresh weights know nothing
    assert found["seconds"].keys() == {"sampling", "verification", "statistics", "likelihood"}


def test_weights_that_do_not_sum_to_one_are_refused(config, capsys):
    assert main.main(["test", "--config", str(config), "--pass_at_k.weighted", '{"w": {"2-4": 0.5}}']) == 2
    assert "sum to 0.5" in capsys.readouterr().err


def test_the_papers_evaluation_runs_with_a_tiny_model(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY | {"vocab_size": 2200, "max_position_embeddings": 2048}).save_pretrained(tmp_path / "start")
    short = [
        "--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false",
        "--trainer.default_root_dir", str(tmp_path),
        "--data.init_args.held_out.problems", "3", "--model.init_args.evaluation.samples", "2",
        "--model.init_args.evaluation.sampling.max_new_tokens", "3", "--ckpt_path", str(tmp_path / "start"),
    ]  # fmt: skip
    assert main.main(["test", "--config", str(ROOT / "configs/evaluation/paper.yaml"), *short]) == 0
    found = json.loads((tmp_path / "test/evaluation.json").read_text())
    assert {name: grades["problems"] for name, grades in found["grades"]["band"].items()} == {
        "ID": 27, "edge": 12, "hard": 18, "ID weighted": 27,
    }  # fmt: skip
    assert list(found["grades"]["op"]) == [str(op) for op in range(2, 21)]
    assert found["grades"]["all"]["all"]["executable"].keys() == {"pass@1", "pass@2"}
    assert found["settings"]["evaluation"]["sampling"]["temperature"] == 0.7
    assert found["topology"]["gold"]
