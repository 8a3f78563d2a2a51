"""Steering from the command line: configs of callbacks, and one of the user's own."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

import main
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

ROOT = Path(__file__).parent.parent
GRPO = str(ROOT / "configs/experiment/quickstart_grpo.yaml")


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def tiny(*more):
    return [
        "--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false", "--trainer.precision", "32-true",
        "--model.init_args.sampling.max_new_tokens", "6", "--data.init_args.prompts_per_rollout", "2",
        "--model.init_args.evaluation", '{"samples": 8, "sampling": {"max_new_tokens": 4}, "likelihood": false}',
        "--data.init_args.held_out.validation_problems", "2", *more,
    ]  # fmt: skip


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def blocks(name):
    """The code blocks of the documentation in one language."""
    return re.findall(rf"```{name}\n(.*?)```", (ROOT / "docs/callbacks.md").read_text(), flags=re.DOTALL)


def test_the_documented_callback_runs_from_a_folder_outside_the_repository(start, tmp_path, monkeypatch):
    (tmp_path / "longest.py").write_text(*blocks("python"))
    (tmp_path / "longest.yaml").write_text(*blocks("yaml"))
    monkeypatch.syspath_prepend(tmp_path)
    assert not tmp_path.is_relative_to(ROOT)
    folder = tmp_path / "run"
    arguments = ["fit", "--config", GRPO, "--config", str(tmp_path / "longest.yaml"), "--model.init_args.init_from", start]
    assert main.main([*arguments, *tiny("--trainer.default_root_dir", str(folder), "--checkpoint.every_n_train_steps", "1")]) == 0
    assert {row["train/longest_solution"] for row in rows(folder)} >= {"0.0"}  # random weights solve nothing
    states = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    assert states["LongestSolution"] == {"longest": 0}


def test_files_of_callbacks_are_combined(start, tmp_path):
    (tmp_path / "budget.yaml").write_text(
        "trainer: {callbacks+: [{class_path: callbacks.ComputeBudget, init_args: {max_tokens: 1}}]}\n"
    )
    arguments = [
        "fit",
        "--config",
        GRPO,
        "--model.init_args.init_from",
        start,
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
    ]
    for config in (ROOT / "configs/callbacks/monitors.yaml", tmp_path / "budget.yaml"):
        arguments += ["--config", str(config)]
    assert main.main([*arguments, *tiny()]) == 0
    assert json.loads((tmp_path / "run/training.json").read_text())["steps"] == 1  # the budget was spent
    logged = {name for row in rows(tmp_path / "run") for name, value in row.items() if value}
    assert {"train/entropy_nats", "train/zero_variance/failed", "train/compute_flops"} <= logged
