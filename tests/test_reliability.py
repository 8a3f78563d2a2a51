"""Faults of machines: what a run says, how it ends, and that it goes on afterwards. The table is docs/reliability.md."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from shutil import rmtree

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from processes import run
from test_resume import assert_same, command, fit

import main
from callbacks.files import damage
from lightning_modules.models.language_model import load_language_model

pytestmark = pytest.mark.long


class Breaks(Callback):
    """At one update: limit the size of files, fill the disk, remove the run's folder, put NaN into a weight, set the clock back,
    or kill a data worker or the second process."""

    def __init__(self, moment: str, updates: int) -> None:
        self.moment, self.updates = moment, updates

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.updates:
            getattr(self, self.moment)(trainer)

    def disk(self, trainer):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    def full(self, trainer):
        with suppress(OSError), (Path(trainer.default_root_dir).parent / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def folder(self, trainer):
        rmtree(trainer.default_root_dir)

    def nan(self, trainer):
        next(trainer.lightning_module.language_model.parameters()).data.fill_(float("nan"))

    def clock(self, trainer):
        real = time.time
        time.time = lambda: real() - 100_000

    def worker(self, trainer):
        for process in active_children():
            process.kill()

    def rank(self, trainer):
        if trainer.global_rank == 1:
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
        ("disk", {}, 2, "make room"),
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


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB; only the administrator of a machine can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_when_there_is_room(small_disk, tmp_path):
    assert run(fit, command(tmp_path / "whole")) == [0]
    assert run(told, broken(small_disk / "run", "full"), tmp_path / "said") == [2]
    (line,) = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error:")]
    assert "No space left on device" in line and "make room" in line
    (small_disk / "filler").unlink()
    assert run(fit, command(small_disk / "run")) == [0]
    assert_same(tmp_path / "whole", small_disk / "run")


def test_a_data_worker_that_is_killed_ends_the_run_with_the_reason_and_it_goes_on(tmp_path):
    settings = {"workers": 1, "accumulate_grad_batches": 16}  # enough rows to need the worker to the end
    assert run(fit, command(tmp_path / "whole", **settings)) == [0]
    assert run(told, broken(tmp_path / "run", "worker", **settings), tmp_path / "said") == [1]
    (line,) = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error:")]
    assert "a process that prepares data has ended" in line
    assert run(fit, command(tmp_path / "run", **settings)) == [0]
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_clock_that_is_set_back_changes_nothing(tmp_path):
    """While a run trains, and between a kill and the start after it: the newest checkpoint then looks the oldest."""
    assert run(fit, command(tmp_path / "whole")) == [0]
    assert run(fit, broken(tmp_path / "run", "clock")) == [0]
    assert_same(tmp_path / "whole", tmp_path / "run")
    assert run(fit, command(tmp_path / "again", killer=("batch", 5))) == [-9]
    for path in (tmp_path / "again/checkpoints").iterdir():
        os.utime(path, (time.time() + 100_000,) * 2)
    assert run(fit, command(tmp_path / "again", killer=("batch", 7))) == [-9]
    assert run(fit, command(tmp_path / "again")) == [0]
    assert_same(tmp_path / "whole", tmp_path / "again")


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
def test_when_a_process_dies_the_other_ends_within_a_minute_and_the_run_can_be_started_again(kind, tmp_path):
    settings = {"devices": 2, "strategy": kind}
    statuses = run(told, broken(tmp_path / "run", "rank", **settings), tmp_path / "said", world=2, patience=60)
    assert statuses == [1, -9]  # the first one by itself
    (line,) = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error:")]
    assert "another process of this run has ended" in line
    assert set(run(fit, command(tmp_path / "run", **settings), world=2)) == {0}


def test_a_folder_of_shards_has_checksums(tmp_path, capsys):
    arguments = command(tmp_path / "run", devices=2, strategy=SHARDED)
    assert set(run(fit, arguments, world=2)) == {0}
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    if not checkpoint.is_dir():
        checkpoint = next(path for path in checkpoint.parent.iterdir() if path.is_dir())
    assert damage(checkpoint) is None
    load_language_model(str(checkpoint))
    shard = max(checkpoint.glob("*.distcp"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert damage(checkpoint) == f"its file {shard.name} is damaged or missing"
    with pytest.raises(ValueError, match=f"is damaged in its file {shard.name}; take an earlier checkpoint"):
        load_language_model(str(checkpoint))
    shard.unlink()
    assert "damaged or missing" in damage(checkpoint)


def test_a_run_killed_at_any_time_leaves_nothing_that_cannot_be_read(tmp_path):
    """At parts of the time that a whole run takes on this machine, so that some come while checkpoints are written."""
    began, interrupted = time.monotonic(), 0
    assert run(fit, command(tmp_path / "whole")) == [0]
    whole = time.monotonic() - began
    for part in range(16):
        folder = tmp_path / f"run{part}"
        run(fit, command(folder), kill_after=whole * (0.25 + 0.05 * part))
        checkpoints = list(folder.glob("checkpoints/*.ckpt"))
        interrupted += bool(checkpoints) and not (folder / "training.json").exists()
        for path in checkpoints:
            assert damage(path) is None
            torch.load(path, weights_only=True)
        for path in folder.rglob("*.json"):
            json.loads(path.read_text())
    assert interrupted


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
