"""A run that stops after the peak of a held-out score leaves the model of the peak."""

import csv
import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from test_steering import GRPO, tiny

import main
from callbacks import StopAtPeak

SCORES = {1: 0.2, 2: 0.5, 3: 0.5, 4: 0.4, 5: 0.9}  # by update


class Scores(Callback):
    """Log the scores, and keep the weights that have them."""

    kept: ClassVar = {}

    def on_validation_epoch_end(self, trainer, pl_module):
        if trainer.training or trainer.validating:
            pl_module.log("val/score", SCORES.get(trainer.global_step, 0.0))
            self.kept[trainer.global_step] = {name: value.clone() for name, value in pl_module.whole_weights().items()}


def fit(start, folder, *more, monitor="val/score", steps="6", **settings):
    stop = {"class_path": "callbacks.StopAtPeak", "init_args": {"monitor": monitor, "patience": 2, **settings}}
    callbacks = json.dumps([{"class_path": "test_peak.Scores"}, stop])
    return main.main([
        "fit", "--config", GRPO, "--model.init_args.init_from", start, *tiny(), "--trainer.max_steps", steps,
        "--model.init_args.reward", "killer.LengthReward", "--trainer.val_check_interval", "1",
        "--trainer.default_root_dir", str(folder), "--trainer.callbacks", callbacks, *more,
    ])  # fmt: skip


def weights_of(folder):
    return load_file(folder / "huggingface/model.safetensors")


def check(folder):
    """The run stopped after update 4, with what update 2 left, everywhere."""
    assert json.loads((folder / "training.json").read_text())["steps"] == 4
    kept, left = Scores.kept, weights_of(folder)
    names = left.keys() & kept[2].keys()
    assert len(names) > 10 and all(torch.equal(left[name], kept[2][name]) for name in names)
    assert not torch.equal(left["model.norm.weight"], kept[4]["model.norm.weight"])
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(last[f"language_model.{name}"], kept[2][name]) for name in names)
    assert (
        json.loads((folder / "training.json").read_text())["weights"]
        == json.loads((folder / "huggingface/interplay.json").read_text())["weights"]
    )
    with (folder / "metrics.csv").open() as file:
        assert [float(row["train/peak"]) for row in csv.DictReader(file) if row.get("train/peak")][-1] == 0.5


@pytest.fixture
def here(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    Scores.kept.clear()


def test_a_run_ends_with_the_weights_of_the_peak(start, tmp_path, here):
    assert fit(start, tmp_path / "run", "--checkpoint.every_n_train_steps", "1") == 0
    check(tmp_path / "run")


def test_a_rise_that_is_too_small_is_no_peak(start, tmp_path, here):
    """From .2 to .5 is less than .35, so that update 1 is the peak, and the run ends two updates later."""
    assert fit(start, tmp_path / "run", least_gain=0.35) == 0
    assert json.loads((tmp_path / "run/training.json").read_text())["steps"] == 3
    assert torch.equal(weights_of(tmp_path / "run")["model.norm.weight"], Scores.kept[1]["model.norm.weight"])


@pytest.mark.long
def test_a_resumed_run_remembers_the_peak(start, tmp_path, here):
    every = ["--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1"]
    assert fit(start, tmp_path / "run", *every) == 0
    peak = Scores.kept[2]["model.norm.weight"]
    third = tmp_path / "run/checkpoints/epoch=0-step=3.ckpt"
    state = torch.load(third, weights_only=True)["callbacks"]["StopAtPeak"]
    assert (state["best"], state["best_step"], state["waited"]) == (0.5, 2, 1)
    assert fit(start, tmp_path / "again", "--ckpt_path", str(third)) == 0
    assert json.loads((tmp_path / "again/training.json").read_text())["steps"] == 4
    assert torch.equal(weights_of(tmp_path / "again")["model.norm.weight"], peak)


def test_a_score_that_nothing_logs_is_named_with_those_that_are(start, tmp_path, here, capsys):
    assert fit(start, tmp_path / "run", monitor="val/executable/pass@9/edge") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "validation logs no 'val/executable/pass@9/edge', but val/" in error


@pytest.mark.long
def test_a_monitored_checkpoint_is_kept_beside_the_last(start, tmp_path, here):
    more = [
        "--checkpoint.monitor", "val/score", "--checkpoint.mode", "max", "--checkpoint.save_top_k", "1", "--trainer.callbacks",
        '[{"class_path": "test_peak.Scores"}]',
    ]  # fmt: skip
    assert fit(start, tmp_path / "run", *more, steps="4") == 0
    (best,) = [path for path in (tmp_path / "run/checkpoints").glob("*.ckpt") if path.stem != "last"]
    state = torch.load(best, weights_only=True)
    assert state["global_step"] == 2
    out = tmp_path / "peak"
    assert main.main(["export", str(best), "--out", str(out)]) == 0
    assert torch.equal(load_file(out / "model.safetensors")["model.norm.weight"], Scores.kept[2]["model.norm.weight"])


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="patience"):
        StopAtPeak("val/score", patience=0)
