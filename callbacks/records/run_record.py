"""The environment of a run, and its steps, tokens and seconds."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.files import write_run_file

PACKAGES = ("torch", "lightning", "transformers", "torchmetrics", "tokenizers", "lark", "jsonargparse")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware of this process."""
    root = Path(__file__).parents[2]
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "commit": git.stdout.strip() or None,
        "platform": platform.platform(),
        "cpu": {"name": _cpu_name(), "capability": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _cpu_name() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class RunRecord(Callback):
    """Write `environment.json` when a run starts, and `training.json` (steps, tokens, seconds) when training ends.

    Seconds are those of all parts of a resumed run, each up to the checkpoint that it left.
    """

    started = before = 0.0

    def state_dict(self) -> dict[str, float]:
        """Seconds so far."""
        return {"seconds": self.before + perf_counter() - self.started}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from there."""
        self.before = state["seconds"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the environment."""
        write_run_file(trainer, "environment.json", environment())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what training cost."""
        seconds = round(self.state_dict()["seconds"], 1)
        cost = {"steps": trainer.global_step, "tokens": int(pl_module.tokens_seen), "seconds": seconds}
        write_run_file(trainer, "training.json", cost)
