"""Doors that a study comes to late: rounds of expert iteration, jobs, exported folders, verdicts in files, advice."""

import gzip
import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from policy_runs import LengthReward
from test_other_usages import data

from callbacks import EdgeOfCompetence, EntropyMonitor, ZeroVariance
from callbacks.files import write_json
from datamodules import MidtrainDataModule
from datamodules.files.row_source import Files
from lightning_modules import GRPOModule, PretrainModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from main import main
from recipes.expert_iteration.rounds import _digests, _passed, load
from recipes.report import verdicts
from recipes.running.jobs import _told
from recipes.trained.trained_model import Kind, _shown_modulus
from tests_support import TINY

CONFIG = "quickstart_midtrain"


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def iteration(folder, start, **changes):
    path = folder / "it.yaml"
    path.write_text(yaml.safe_dump({"config": CONFIG, "start_from": start, "ops": "2"} | changes))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gate": "x"}, "gate='x' must be a number"), ({"problems": "12"}, "must be whole numbers from 1 on"),
        ({"ops": "x"}, "expected a number or a range"), ({"config": "quickstart_grpo"}, "is of RL, which samples by itself"),
        ({"settings": {"data.init_args.replay_share": 0.5, "data.init_args.replay": "rl_7_10"}}, "leave out `replay_share`"),
        ({"config": "nowhere"}, "'nowhere' does not exist"), ({"settings": {"trainer.max_step": 3}}, "max_step"),
    ],
)  # fmt: skip
def test_a_file_of_expert_iteration_is_checked_before_it_samples(tmp_path, start, change, message):
    with pytest.raises(ValueError, match=message):
        load(iteration(tmp_path, start, **change))


def test_what_a_round_was_asked_for_says_nothing_of_the_gate_or_the_spelling_of_a_path(tmp_path, start):
    first = load(iteration(tmp_path, start))
    moved = load(iteration(tmp_path, str(tmp_path / "." / "start"), gate=0.5))
    other = load(iteration(tmp_path, start, samples=3))
    assert _digests(first, {}, 0, start)[0] == _digests(moved, {}, 0, start)[0] != _digests(other, {}, 0, start)[0]
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert _digests(first, {"settings": one}, 0, start)[0] == _digests(first, {"settings": two}, 0, start)[0]
    counts = {"pass@1": 0.2, "train_rows": 3}
    assert _passed(first, counts) and not _passed(moved, counts) and not _passed(first, counts | {"train_rows": 0})


def test_rounds_sample_no_held_out_problem_of_a_file(tmp_path, start, monkeypatch):
    from recipes.expert_iteration import rounds

    given = []
    monkeypatch.setattr(rounds, "draw_rows", lambda folder, words, keep: given.append(words) or {"pass@1": 0.0, "train_rows": 0})
    spec = load(iteration(tmp_path, start))
    (tmp_path / "out/op02").mkdir(parents=True)
    rounds._sample(spec, 0, rounds.Round(2, start, start, tmp_path / "out/op02"))
    assert "--data.init_args.held_out.files=[]" in given[0]


def test_replay_beside_files_is_refused_with_and_without_a_mixture(tmp_path):
    row = {"problem": "The number of roses equals 3.", "question": "How many roses are there?"}
    row["solution"] = "Define roses as A; so A = 3. Answer: 3."
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    for mixture in (None, "rl_7_10"):
        with pytest.raises(ValueError, match="needs a `mixture`, not rows of `files`"):
            MidtrainDataModule(
                mixture, "garden", replay="rl_7_10", replay_share=0.5, files=Files(train=[str(tmp_path / "rows.jsonl")])
            )


def test_an_exported_folder_knows_what_its_problems_compute_modulo(tmp_path):
    write_json(tmp_path / "interplay.json", {"example": {"modulus": 5}})
    assert _shown_modulus(tmp_path) == 5 and _shown_modulus(tmp_path / "none") is None
    assert Kind(shown=5).modulus == 5 and Kind(("greenhouse",), shown=5).modulus is None


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_verdicts_are_compressed_as_their_file_is_named(tmp_path, ending):
    row = {
        "problem": "The number of roses equals 3.",
        "question": "How many roses are there?",
        "response": "\ud800",
        "modulus": 5,
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    out = tmp_path / f"verdicts{ending}"
    assert main(["verify", str(tmp_path / "rows.jsonl"), "--out", str(out)]) == 0
    text = gzip.decompress(out.read_bytes()).decode() if ending.endswith("gz") else out.read_text()
    assert json.loads(text)["accepted"] is False
    assert [path.name for path in tmp_path.iterdir() if path != out] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZeroVariance(patience=0), "patience=0 must be at least 1"),
        (lambda: EntropyMonitor(floor=0.1, patience=0), "patience=0 must be at least 1"),
        (lambda: ZeroVariance(grader="executible"), "executible"), (lambda: EdgeOfCompetence(grader="executible"), "executible"),
    ],
)  # fmt: skip
def test_callbacks_refuse_what_they_could_not_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("error", [NameError("no 'nonsense'"), AssertionError(), RuntimeError("could not detect srun")])
def test_what_submitit_refuses_is_a_mistake_in_the_command(error):
    with pytest.raises(ValueError, match="--job: submitit refuses it: "), _told("--job"):
        raise error


def test_bands_that_arms_have_in_common_are_compared(monkeypatch):
    scores = {("a", "ID"): 0.5, ("a", "edge"): 0.0, ("b", "edge"): 0.0}

    def grade(group, kind, band, metric):
        value = scores.get((group.label, band))
        return None if value is None else SimpleNamespace(value=value)

    groups = [SimpleNamespace(label=label) for label in "ab"]
    values = SimpleNamespace(study=SimpleNamespace(groups=groups), bands=lambda: ["ID", "edge"], ends=lambda: [1], grade=grade)
    assert [one["what"] for one in verdicts._compared(values)] == ["b - a: edge pass@1"]


@pytest.mark.parametrize(("kind", "other"), [(GRPOModule, "ComputeBudget"), (PretrainModule, "budget.max_tokens")])
def test_a_run_without_end_is_told_what_may_end_it(kind, other, start):
    made = PretrainModule(TINY, optimizer=AdamW(lr=0.1)) if kind is PretrainModule else GRPOModule(start, LengthReward())
    made.trainer = SimpleNamespace(max_steps=-1, datamodule=data())
    made.build_optimizer = lambda: None
    with pytest.raises(ValueError, match=rf"set `trainer\.max_steps` to the number of updates; .*{other}"):
        made.configure_optimizers()


def test_configs_of_all_kinds_have_names(tmp_path, capsys, start):
    words = ["--trainer.fast_dev_run", "true", "--model.init_args.init_from", start, "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", "--config", "quickstart_grpo", "--config", "pkpo_44", *words]) == 2
    assert "did you mean 'pkpo_4'?" in capsys.readouterr().err
