"""What a run was made with and what it took: environment, steps, compute, and the mixture that it drew."""

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
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from callbacks.files import read_json, run_folder, write_run_file
from callbacks.processes import sum_over_processes
from callbacks.steps import is_logged

SAMPLING = "sampling"  # the phase of predictions
PACKAGES = ("interplay", "torch", "lightning", "transformers", "torchmetrics", "tokenizers", "lark", "jsonargparse")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware of this process."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "commit": _commit(Path(__file__).parents[2]),
        "platform": platform.platform(),
        "cpu": {"name": _cpu_name(), "capability": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def computing(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """What may differ from machine to machine: accelerator, processes, precision, and the module's attention and compilation."""
    return {
        "accelerator": trainer.strategy.root_device.type, "processes": trainer.world_size, "precision": str(trainer.precision),
        "attention": getattr(pl_module, "attention", None), "compile": getattr(pl_module, "compile_layers", False),
    }  # fmt: skip


def _commit(root: Path) -> str | None:
    """The commit of a checkout, and "with changes" if files differ from it.

    None: `root` is none, but an installed copy, perhaps within a checkout of something else.
    """
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *words], capture_output=True, text=True, check=False
        ).stdout.strip()

    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return (f"{commit} with changes" if changed else commit) or None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class RunRecord(Callback):
    """Write `environment.json` when a run starts, and `training.json` (steps, tokens, seconds, weights) when training ends.

    `weights` is the digest that an evaluation of these weights records too (the module's `identity`).
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
        write_run_file(trainer, "environment.json", environment() | {"computing": computing(trainer, pl_module)})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training that goes on is not over."""
        path = run_folder(trainer) / "training.json"
        if trainer.is_global_zero:
            path.unlink(missing_ok=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what training cost."""
        seconds = round(self.state_dict()["seconds"], 1)
        cost = {"steps": trainer.global_step, "tokens": int(pl_module.tokens_seen), "seconds": seconds}
        cost |= {"weights": pl_module.identity()["weights"]}
        write_run_file(trainer, "training.json", cost)


class ComputeLedger(Callback):
    """Write `compute.json` when training ends: the cost of all processes, and of all parts of a run that was resumed.

    Sampling counts where training learns from it: a prediction leaves its own sums, without those of the checkpoint that it
    reads, in `compute_sums.json`, and the `rejection.json` of a run that trains on own solutions has them as `compute`. Seconds
    there are those of the last part of an interrupted prediction.
    It reads the module's `compute` (what this process has run so far) and `ledger` (sums -> tokens, FLOPs, nominal cost).
    """

    def __init__(self) -> None:
        self.before: dict[str, Any] = {"phases": {}, "nominal_tokens": 0.0}

    def total(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Sums over processes and over earlier parts of a resumed run; every process must call this."""
        state = pl_module.compute.state()
        phases = sorted({*state["phases"], *self.before["phases"]})
        counts = [state["nominal_tokens"], *(n for phase in phases for n in state["phases"].get(phase, (0.0, 0.0)))]
        sums = sum_over_processes(trainer, counts)
        total = {"phases": {}, "nominal_tokens": sums[0] + self.before["nominal_tokens"]}
        for i, phase in enumerate(phases):
            earlier = self.before["phases"].get(phase, (0.0, 0.0))
            total["phases"][phase] = [sums[2 * i + 1] + earlier[0], sums[2 * i + 2] + earlier[1]]
        return total

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the sums."""
        checkpoint["compute"] = self.total(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue from the sums; what this module has run before, in this process, is in them, or was undone."""
        self.before = checkpoint.get("compute", self.before)
        if trainer.state.fn == TrainerFn.FITTING:
            pl_module.compute.clear()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sums of a prediction."""
        sampled = pl_module.compute.state()["phases"].get(SAMPLING, (0.0, 0.0))
        sums = {"phases": {SAMPLING: sum_over_processes(trainer, sampled)}, "seconds": dict(pl_module.judgements.seconds)}
        write_run_file(trainer, "compute_sums.json", sums)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the ledger."""
        total, sampled = self.total(trainer, pl_module), run_folder(trainer) / "rejection.json"
        if sampled.is_file():
            total["phases"][SAMPLING] = read_json(sampled)["compute"]["phases"][SAMPLING]
        write_run_file(trainer, "compute.json", pl_module.ledger(total))


class MixtureRecord(Callback):
    """Write `mixture.json`: documents and tokens that all processes drew, by operations x context x mode, and the shares
    that were intended. Log `train/mixture_distance`, the total variation distance between the two.

    It reads the data module's `drawn` (`plan`, `take()`, `distance(counts)`, `report(counts)`), and does nothing without it.
    Checkpoints hold the counts, so those of a resumed run cover the whole run.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None  # of all processes, up to the last sum
        self.since: Tensor | None = None  # of this process, since then
        self.restored: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the counts until training starts."""
        self.restored = checkpoint.get("mixture")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue from there.

        Raises:
            ValueError: the checkpoint's counts are of another mixture.
        """
        drawn = getattr(trainer.datamodule, "drawn", None)
        if drawn is not None and self.restored is not None:
            if self.restored.get("plan") != drawn.plan:
                raise ValueError(
                    "the checkpoint was trained on another mixture or on other files, or is of an earlier version; resume it "
                    "with the `data` it had, or start from its weights with `model.init_args.init_from`."
                )
            self.total = self.restored["counts"]
        self.restored = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Add what the batch was drawn from; if Lightning logs this step, log the distance."""
        if (drawn := getattr(trainer.datamodule, "drawn", None)) is None:
            return
        counts = drawn.take()
        self.since = counts if self.since is None else self.since + counts
        if trainer.global_step and is_logged(trainer, trainer.global_step):
            distance = drawn.distance(self._sum(trainer))
            if distance is not None:
                pl_module.log("train/mixture_distance", distance)

    def _sum(self, trainer: Trainer) -> Tensor:
        """Counts of all processes; every process must call this."""
        found = trainer.strategy.reduce(self.since.to(trainer.strategy.root_device), reduce_op="sum").cpu()
        self.total = found if self.total is None else self.total + found
        self.since = torch.zeros_like(self.total)
        return self.total

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the counts, and write them."""
        if self.since is not None:
            drawn, counts = trainer.datamodule.drawn, self._sum(trainer)
            checkpoint["mixture"] = {"plan": drawn.plan, "counts": counts}
            write_run_file(trainer, "mixture.json", drawn.report(counts))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the counts."""
        if self.since is not None:
            write_run_file(trainer, "mixture.json", trainer.datamodule.drawn.report(self._sum(trainer)))
