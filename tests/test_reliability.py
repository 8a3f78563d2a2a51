"""Faults of machines: what a run says, how it ends, and that it goes on afterwards. The table is docs/reliability.md."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from processes import run
from test_resume import assert_same, command, fit

import main
from callbacks.files import damage

pytestmark = pytest.mark.long


class Breaks(Callback):
    """At one update: fill the disk, remove the run's folder, put NaN into a weight, or kill the second process."""

    def __init__(self, moment: str, updates: int) -> None:
        self.moment, self.updates = moment, updates

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step != self.updates:
            return
        if self.moment == "disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        if self.moment == "folder":
            rmtree(trainer.default_root_dir)
        if self.moment == "nan":
            next(pl_module.language_model.parameters()).data.fill_(float("nan"))
        if self.moment == "rank" and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def broken(folder, moment, updates=3, **more):
    arguments = command(folder, **more)
    path = Path(arguments[arguments.index("--config") + 1])
    text = path.read_text().replace("trainer:\n", "trainer:\n  callbacks:\n", 1)
    text = text.replace(
        "  callbacks:\n",
        f"  callbacks:\n  - class_path: test_reliability.Breaks\n    init_args: {{moment: {moment}, updates: {updates}}}\n", 1,
    )  # fmt: skip
    broken_path = path.with_suffix(f".{moment}.yaml")
    broken_path.write_text(text)
    return [*arguments[: arguments.index("--config") + 1], str(broken_path), *arguments[arguments.index("--config") + 2 :]]


def told(arguments, path):
    """Run a command and keep what it says on stderr; its exit status."""
    with path.open("w") as file:
        sys.stderr = file
        sys.exit(main.main(arguments))


@pytest.mark.parametrize(
    ("moment", "more", "status", "said"),
    [
        ("disk", {}, 2, "File too large"),
        ("nan", {}, 1, "loss"),
    ],
)
def test_a_fault_is_told_in_one_line_and_the_run_goes_on_bit_for_bit(moment, more, status, said, tmp_path):
    assert run(fit, command(tmp_path / "whole")) == [0]
    assert run(told, broken(tmp_path / "run", moment, **more), tmp_path / "said") == [status]
    lines = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and said in lines[0], (tmp_path / "said").read_text()[-3000:]
    assert not (tmp_path / "run/training.json").exists()
    assert run(fit, command(tmp_path / "run")) == [0]
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_folder_that_is_removed_ends_the_run_in_one_line(tmp_path):
    assert run(told, broken(tmp_path / "run", "folder"), tmp_path / "said") == [2]
    (line,) = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error:")]
    assert str(tmp_path / "run") in line and "No such file or directory" in line
    assert run(fit, command(tmp_path / "run")) == [0]


SHARDED = {
    "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
    "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1},
}


@pytest.mark.parametrize("kind", ["ddp", SHARDED], ids=["ddp", "fsdp2"])
def test_a_run_whose_process_died_can_be_started_again(kind, tmp_path):
    settings = {"devices": 2, "strategy": kind}
    started = time.monotonic()
    statuses = run(told, broken(tmp_path / "run", "rank", **settings), tmp_path / "said", world=2)
    assert -9 in statuses and all(status != 0 for status in statuses)
    assert time.monotonic() - started < 100
    assert set(run(fit, command(tmp_path / "run", **settings), world=2)) == {0}


@pytest.mark.parametrize("seconds", [1.0 + 0.06 * n for n in range(50)])
def test_a_run_killed_at_any_time_leaves_nothing_that_cannot_be_read(seconds, tmp_path):
    run(fit, command(tmp_path / "run"), kill_after=seconds)
    for path in (tmp_path / "run").glob("checkpoints/*.ckpt"):
        assert damage(path) is None
        torch.load(path, weights_only=True)
    for path in (tmp_path / "run").rglob("*.json"):
        json.loads(path.read_text())


def test_memory_of_a_long_run_is_flat(tmp_path):
    """Half a thousand rollouts of a minute model; benchmarks.soak does it for any command."""
    arguments = command(tmp_path / "run", stage="grpo", max_steps=500, log_every_n_steps=50)
    root = Path(__file__).parent.parent
    out = tmp_path / "soak.json"
    watched = [sys.executable, "-m", "benchmarks.soak", "--every", "1", "--out", str(out), *arguments]
    subprocess.run(watched, cwd=root, check=True, env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"})
    found = json.loads(out.read_text())
    assert found["status"] == 0 and found["growth"] < 0.03
    files = [reading[2] for reading in found["readings"]]
    assert max(files[len(files) // 2 :]) <= max(files[: len(files) // 2]) + 3
