"""What a device can do, from data sheets; for a CPU measured on the spot."""

from dataclasses import dataclass
from functools import cache
from time import perf_counter, process_time
from timeit import repeat

import torch

GB = 1e9


@dataclass(frozen=True)
class Device:
    """One device and its links; rates in bytes or FLOPs a second.

    flops:     of matrix products in the precision of training: bfloat16 without sparsity; float32 on a CPU.
    bandwidth: of its memory.      memory: bytes.
    link:      to a device of the same machine, one way.      network: to another machine, per device.
    launch:    seconds of the device for a kernel within a CUDA graph.      issue: of the host for one outside.
    share:     of `flops` that training is taken to reach.      read_share: of `bandwidth` in sampling.
    per_node:  devices of a machine.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    network: float
    launch: float = 2e-6
    issue: float = 8e-6
    share: float = 0.4
    read_share: float = 0.6
    per_node: int = 8


# data sheets of the SXM versions; the network is one 400 Gbit/s port per device (A100: 200)
DEVICES = {
    "a100": Device("a100", 312e12, 2039 * GB, 80 * GB, 300 * GB, 25 * GB),
    "h100": Device("h100", 989e12, 3350 * GB, 80 * GB, 450 * GB, 50 * GB),
    "h200": Device("h200", 989e12, 4800 * GB, 141 * GB, 450 * GB, 50 * GB),
    "b200": Device("b200", 2250e12, 8000 * GB, 180 * GB, 900 * GB, 50 * GB),
}


@cache
def this_cpu() -> Device:
    """The CPU at hand with the threads that PyTorch has: rates of products as wide as a small model's, and of a copy."""
    timer = process_time if torch.get_num_threads() == 1 else perf_counter  # other processes change the first little
    tokens, weights, data = torch.randn(4096, 128), torch.randn(128, 512), torch.ones(1 << 25)
    product = min(repeat(lambda: tokens @ weights, timer=timer, number=4, repeat=5)) / 4
    copy = min(repeat(data.clone, timer=timer, number=1, repeat=5))
    small = torch.ones(8)
    call = min(repeat(lambda: small + small, timer=timer, number=1000, repeat=3)) / 1000
    rate = 2 * tokens.shape[0] * weights.numel() / product
    bandwidth = 2 * data.nbytes / copy
    return Device("cpu", rate, bandwidth, 16 * GB, bandwidth, GB, call, call, 1.0, 1.0, 1)


def device_named(name: str) -> Device:
    """A device by name.

    Raises:
        ValueError: there is none.
    """
    if name != "cpu" and name not in DEVICES:
        raise ValueError(f"--device {name!r} is unknown; choose one of {', '.join([*DEVICES, 'cpu'])}.")
    return this_cpu() if name == "cpu" else DEVICES[name]
