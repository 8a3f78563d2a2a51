"""A run that is killed and started again with the same command goes on as if nothing had happened, bit for bit."""

import csv
import json
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml
from minute_recipe import write_configs
from processes import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from callbacks.records.checkpoint import resume_command
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

ROOT = Path(__file__).parent.parent
TIMES = ("train/tokens_per_s", "train/step_s", "train/data_wait", "train/memory_gib", "val/seconds")


def command(folder, *, stage="pretrain", strategy="auto", devices=1, killer=None, workers=0, settings=None, **more):
    """A config of a minute run with a checkpoint every other update, and the command that starts it."""
    source = ROOT / f"configs/experiment/quickstart_{stage}.yaml"
    config = yaml.safe_load(source.read_text())
    for part in ("model", "data"):
        config[part] = yaml.safe_load((source.parent / config[part]).read_text())
    config["trainer"] |= {
        "default_root_dir": str(folder), "max_steps": 8, "val_check_interval": 4, "log_every_n_steps": 1, "devices": devices,
        "strategy": strategy, "enable_progress_bar": False, "precision": "32-true", "accumulate_grad_batches": 2 // devices,
    }  # fmt: skip
    config["trainer"] |= more
    config["checkpoint"] = {"every_n_train_steps": 2}
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    model["evaluation"] = {"samples": 2, "sampling": {"max_new_tokens": 4}}
    data["held_out"] |= {"validation_problems": 1}
    if stage == "pretrain":
        model["architecture"] = TINY
        data |= {"batch_rows": 2, "workers": workers}
    else:
        torch.manual_seed(0)
        build_language_model(TINY).save_pretrained(folder / "start")
        model |= {"init_from": str(folder / "start"), "reward": {"class_path": "killer.LengthReward"}}
        model["sampling"]["max_new_tokens"] = 8
        config["trainer"] |= {"accumulate_grad_batches": 1, "val_check_interval": 100}
        data["prompts_per_rollout"] = 2
    model |= settings or {}
    if killer:
        moment, updates = killer
        arguments = {"moment": moment, "updates": updates}
        config["trainer"]["callbacks"] = [{"class_path": "killer.Killer", "init_args": arguments}]
    path = folder.with_name(f"{folder.name}{killer or ''}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return ["fit", "--config", str(path), "--ckpt_path", "last"]


def fit(arguments):
    assert main.main(arguments) == 0


def fit_and_keep_what_is_said(arguments, path):
    with path.open("w") as file, redirect_stdout(file):
        fit(arguments)


def rows(folder):
    """What was logged, row by row, without what depends on the clock."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if v and not k.startswith(TIMES)} for row in csv.DictReader(file)]


def scalars(folder):
    """What TensorBoard shows."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith(TIMES)]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def assert_same(one, other):
    assert len(rows(one)) >= 8
    assert rows(one) == rows(other)
    assert scalars(one) == scalars(other)
    ends = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in (one, other)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 8
    assert all(torch.equal(ends[0]["state_dict"][name], ends[1]["state_dict"][name]) for name in ends[0]["state_dict"])
    costs = [json.loads((folder / "training.json").read_text()) for folder in (one, other)]
    assert costs[0]["tokens"] == costs[1]["tokens"] > 0
    for name in ("compute.json", "mixture.json"):
        assert (one / name).read_text() == (other / name).read_text()
    mixture = json.loads((one / "mixture.json").read_text())
    assert mixture["documents"] == sum(cell["documents"] for cell in mixture["cells"]) > 0


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """Killed once between checkpoints and once with a checkpoint half written; the third start, with a worker, ends it."""
    assert run(fit, command(tmp_path / "whole")) == [0]
    assert run(fit, command(tmp_path / "killed", killer=("batch", 3))) == [-9]
    assert run(fit, command(tmp_path / "killed", killer=("write", 6))) == [-9]
    assert list((tmp_path / "killed/checkpoints").glob("*.part"))
    assert run(fit, command(tmp_path / "killed", workers=1)) == [0]
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=pytest.mark.long)])
def test_a_run_that_is_asked_to_stop_saves_says_how_to_go_on_and_goes_on_bit_for_bit(tmp_path, name, status):
    """After updates 3 (between two checkpoints) and 4 (which validation follows); the third start ends it."""
    assert run(fit, command(tmp_path / "whole")) == [0]
    for stopped in (3, 4):
        arguments = command(tmp_path / "stopped", killer=(name, stopped))
        assert run(fit_and_keep_what_is_said, arguments, tmp_path / "said") == [status]
        said = (tmp_path / "said").read_text()
        assert f"{name}: training stops after this update" in said
        assert f"Stopped at step {stopped} of 8; saved {tmp_path}/stopped/checkpoints/last.ckpt" in said
        assert "To resume: python" in said
        assert not (tmp_path / "stopped/training.json").exists()
        assert torch.load(tmp_path / "stopped/checkpoints/last.ckpt", weights_only=True)["global_step"] == stopped
    assert run(fit, command(tmp_path / "stopped")) == [0]
    assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.long
def test_two_processes_stop_together_when_one_is_asked_to(tmp_path):
    settings = {"devices": 2, "strategy": "ddp"}
    assert set(run(fit, command(tmp_path / "whole", **settings), world=2)) == {0}
    stopped = command(tmp_path / "stopped", killer=("SIGTERM", 3), **settings)
    assert 143 in run(fit, stopped, world=2)  # the other one ends with it, or is ended by who runs them
    assert torch.load(tmp_path / "stopped/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert set(run(fit, command(tmp_path / "stopped", **settings), world=2)) == {0}
    assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.long
def test_a_recipe_whose_stage_is_asked_to_stop_scores_no_unfinished_weights_and_goes_on(tmp_path):
    write_configs(tmp_path)
    config = yaml.safe_load((tmp_path / "pretrain.yaml").read_text())
    config["trainer"]["callbacks"] = [{"class_path": "killer.Killer", "init_args": {"moment": "SIGTERM", "updates": 2}}]
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(config))
    recipe, stage = tmp_path / "recipe.yaml", tmp_path / "out/pretrain"
    recipe.write_text(yaml.safe_dump({"about": "A test.", "stages": {"pretrain": {"config": "pretrain.yaml"}}}))
    command = ["run", str(recipe), "--out", str(tmp_path / "out"), "--seed", "0"]
    assert run(fit, command) == [143]
    assert (stage / "checkpoints/last.ckpt").exists() and not (stage / "test").exists()
    assert run(fit, command) == [0]
    assert json.loads((stage / "training.json").read_text())["steps"] == 4
    assert (stage / "test/pass_at_k.json").exists()


def test_a_signal_after_the_last_update_ends_a_run_that_is_done(tmp_path):
    assert run(fit, command(tmp_path / "late", killer=("SIGTERM", 8))) == [143]
    assert (tmp_path / "late/training.json").exists()


TWO_PROCESSES = pytest.param({"devices": 2, "strategy": "ddp"}, marks=pytest.mark.long)


@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 5}, TWO_PROCESSES])
def test_a_run_killed_after_its_last_checkpoint_writes_at_the_next_start_what_it_owes(tmp_path, settings):
    """With a validation after the last update, and with one between its batches; a further start of a run that is over
    changes nothing."""
    world = settings.get("devices", 1)
    assert set(run(fit, command(tmp_path / "whole", **settings), world=world)) == {0}
    assert -9 in run(fit, command(tmp_path / "killed", killer=("end", 8), **settings), world=world)
    for _ in range(2):
        assert set(run(fit, command(tmp_path / "killed", **settings), world=world)) == {0}
        assert_same(tmp_path / "whole", tmp_path / "killed")
        assert any((tmp_path / "killed/huggingface").glob("*.safetensors"))


def test_the_resume_command_is_the_one_given_and_takes_the_last_checkpoint():
    said = resume_command(["main.py", "fit", "--config", "a b.yaml", "--ckpt_path", "old.ckpt", "--trainer.max_steps=3"])
    assert said.split(" ", 1)[1] == "main.py fit --config 'a b.yaml' --trainer.max_steps=3 --ckpt_path last"
    assert resume_command(["main.py", "run", "r.yaml"]).split(" ", 1)[1] == "main.py run r.yaml"


@pytest.mark.long
@pytest.mark.parametrize("moment", ["batch", "write", "rename"])
@pytest.mark.parametrize("updates", [1, 5])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(tmp_path, moment, updates, processes):
    settings = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    assert set(run(fit, command(tmp_path / "whole", **settings), world=processes)) == {0}
    assert -9 in run(fit, command(tmp_path / "killed", killer=(moment, updates), **settings), world=processes)
    assert set(run(fit, command(tmp_path / "killed", **settings), world=processes)) == {0}
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.long
def test_a_run_killed_by_the_clock_again_and_again_goes_on_bit_for_bit(tmp_path):
    began = time.monotonic()
    assert run(fit, command(tmp_path / "whole")) == [0]
    whole = time.monotonic() - began
    for part in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        run(fit, command(tmp_path / "killed"), kill_after=part * whole)
    assert any((tmp_path / "killed/checkpoints").iterdir())
    assert run(fit, command(tmp_path / "killed")) == [0]
    assert_same(tmp_path / "whole", tmp_path / "killed")


MOVING = {
    "minibatches": 2, "epochs": 2, "beta": 0.1, "kl": {"target": 1.0e-6, "reference_decay": 0.9}, "resample": 1,
    "group_size": 4,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("updates", [5, 7])  # the checkpoint before is between two rollouts, or within the second
@pytest.mark.parametrize(("stage", "processes"), [("grpo", 1), ("grpo", 2), ("ppo", 1)])
def test_rollouts_after_a_kill_are_those_that_would_have_been(tmp_path, updates, stage, processes):
    """Rollouts draw from torch's generator, which the checkpoint keeps, as it keeps the rollout that it falls into."""
    more = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto", "stage": stage, "settings": MOVING}
    assert set(run(fit, command(tmp_path / "whole", **more), world=processes)) == {0}
    killed = command(tmp_path / "killed", killer=("batch", updates), **more)
    assert -9 in run(fit, killed, world=processes)
    assert set(run(fit, command(tmp_path / "killed", **more), world=processes)) == {0}
    assert_same(tmp_path / "whole", tmp_path / "killed")
