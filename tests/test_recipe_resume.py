"""An experiment that is killed at any moment and started again ends with the numbers of one that was left alone."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from minute_recipe import ROOT, write_recipe

TIMES = ("train/tokens_per_s", "train/step_s", "train/data_wait", "train/memory_gib", "val/seconds")
# what appears just before each kill: a checkpoint, samples of a test, a checkpoint of RL, the end of its training
MOMENTS = (
    "stages/pretrain-*/checkpoints/*.ckpt", "stages/pretrain-*/test/samples/test.jsonl", "stages/grpo-*/checkpoints/*.ckpt",
    "stages/grpo-*/training.json",
)  # fmt: skip


def start(recipe: Path, out: Path, *options: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "main.py"), "run", str(recipe), "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


def numbers(out: Path) -> dict[str, object]:
    """All that the stages found and logged, without what depends on the clock."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name in ("pass_at_k.json", "compute.json", "minute.json"):
            found[name] = json.loads(path.read_text())
        if path.name == "evaluation.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}
        if path.name == "training.json":
            found[name] = {key: json.loads(path.read_text())[key] for key in ("steps", "tokens")}
        if path.name == "test.jsonl":
            found[name] = path.read_text()
        if path.name == "metrics.csv" and "test" not in path.parts[-2:]:
            with path.open() as file:
                found[name] = [{k: v for k, v in row.items() if v and not k.startswith(TIMES)} for row in csv.DictReader(file)]
    return found


def kill_at(process: subprocess.Popen, out: Path, moment: str, *, with_stage: bool) -> None:
    """Kill an experiment, with the process of its stage or without, once a file is there."""
    while process.poll() is None and not list(out.glob(moment)):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    (os.killpg if with_stage else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_killed_again_and_again_an_experiment_ends_as_if_it_had_been_left_alone(tmp_path, options):
    """Every other time its stage's process lives on; the next start waits for it."""
    recipe = write_recipe(tmp_path / "recipe", arms={"data": {"edge": {}}})
    assert start(recipe, tmp_path / "whole").wait(timeout=400) == 0
    for number, moment in enumerate(MOMENTS):
        kill_at(start(recipe, tmp_path / "killed", *options), tmp_path / "killed", moment, with_stage=number % 2 == 0)
    assert start(recipe, tmp_path / "killed", *options).wait(timeout=400) == 0
    whole, killed = numbers(tmp_path / "whole"), numbers(tmp_path / "killed")
    assert len(whole) > 10
    assert whole == killed
