"""The speed of training (tokens per second, seconds per update, share of waiting for data, MFU) and the memory it needs."""

import resource
import sys
from time import perf_counter
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from torch import Tensor

from callbacks.steps import is_logged

# dense FLOP/s in 16 bit, TF32 and float32 of GPUs whose names Lightning's table misses (data sheets)
HOPPER = (989.4e12, 494.7e12, 67e12)
FLOPS = {"NVIDIA H200": HOPPER, "NVIDIA GH200 480GB": HOPPER, "NVIDIA B200": (2250e12, 1125e12, 75e12)}


class Throughput(Callback):
    """Log rates over the time since the last log, without that of validation; sampling a rollout counts.

    `train/tokens_per_s`: tokens of all processes that training steps report in `outputs["tokens"]`.
    `train/step_s`:       seconds per update.
    `train/data_wait`:    share of the time in which training waited for its loader (for RL: for rollouts).
    `train/mfu`:          model FLOP utilisation = `outputs["flops"]` / (seconds * peak FLOP/s of the device), this process's.
                          Model FLOPs are those of real tokens and of what these may attend to: padding, recomputation and
                          masked-out attention do not count (arXiv:2204.02311, appendix B). Absent if the peak is not known.

    Args:
        peak_flops: FLOP/s of the device at the precision used; None: looked up by its name.
    """

    def __init__(self, peak_flops: float | None = None) -> None:
        self.peak_flops = peak_flops
        self.fetches = FetchClock()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Time the loader by Lightning's profiler hooks; if the user chose a profiler it stays, and `data_wait` is not logged."""
        if stage == "fit" and isinstance(trainer.profiler, PassThroughProfiler):
            trainer.profiler = self.fetches
        if stage == "fit" and self.peak_flops is None:
            self.peak_flops = peak_flops(trainer.strategy.root_device, str(trainer.precision))

    def on_train_start(self, trainer: Trainer, *args: object) -> None:
        """Start the clock."""
        self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        self.since, self.first_step = perf_counter(), trainer.global_step
        self.fetches.seconds = 0.0
        self.tokens: list[Tensor] = []
        self.flops: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        """Add a batch; if Lightning logs this step, log the rates. Only then does this wait for the device."""
        self.tokens.append(outputs["tokens"])
        if outputs.get("flops") is not None:
            self.flops.append(outputs["flops"])
        steps = trainer.global_step - self.first_step
        if steps and is_logged(trainer, trainer.global_step):
            tokens = float(trainer.strategy.reduce(torch.stack(self.tokens).sum().double(), reduce_op="sum"))
            self._log(trainer, pl_module, tokens, perf_counter() - self.since, steps)
            self._restart(trainer)

    def _log(self, trainer: Trainer, pl_module: LightningModule, tokens: float, seconds: float, steps: int) -> None:
        pl_module.log("train/tokens_per_s", tokens / seconds)
        pl_module.log("train/step_s", seconds / steps)
        if trainer.profiler is self.fetches:
            pl_module.log("train/data_wait", self.fetches.seconds / seconds)
        if self.peak_flops and self.flops:
            pl_module.log("train/mfu", float(torch.stack(self.flops).sum()) / (seconds * self.peak_flops))

    def on_validation_start(self, *args: object) -> None:
        """Stop the clock."""
        self.stopped_at = perf_counter()

    def on_validation_end(self, trainer: Trainer, *args: object) -> None:
        """Start it again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.since += perf_counter() - self.stopped_at


class FetchClock(Profiler):
    """Seconds in which the training loop waited for its next batch."""

    seconds = started = 0.0

    def start(self, action_name: str) -> None:
        """Note the time when a training batch is asked for."""
        if action_name.endswith("train_dataloader_next"):
            self.started = perf_counter()

    def stop(self, action_name: str) -> None:
        """Add the wait."""
        if action_name.endswith("train_dataloader_next"):
            self.seconds += perf_counter() - self.started

    def summary(self) -> str:
        """Nothing to print."""
        return ""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Data-sheet FLOP/s of a GPU at a Lightning precision, from Lightning's table or ours; None: not known."""
    if device.type != "cuda":
        return None
    dtype = torch.bfloat16 if "bf16" in precision else torch.float16 if "16" in precision else torch.float32
    if (known := FLOPS.get(torch.cuda.get_device_name(device))) is None:
        return get_available_flops(device, dtype)
    half, tf32, full = known
    return half if dtype is not torch.float32 else full if torch.get_float32_matmul_precision() == "highest" else tf32


GIB = 2**30


class Memory(Callback):
    """Log `train/memory_gib`: the peak since the last log of what torch allocates on the GPU; on a CPU, of the whole process."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: object) -> None:
        """Log if Lightning logs this step."""
        if is_logged(trainer, trainer.global_step):
            pl_module.log("train/memory_gib", peak_memory(pl_module.device) / GIB)


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak; on a GPU the peak is then reset."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
