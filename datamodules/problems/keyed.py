"""Random numbers that depend on a key alone."""

from hashlib import blake2b
from random import Random

import torch


def keyed_random(key: str) -> Random:
    """Python's generator, seeded by `key`."""
    return Random(blake2b(key.encode(), digest_size=16).digest())


def keyed_generator(key: str) -> torch.Generator:
    """PyTorch's generator, seeded by `key`."""
    return torch.Generator().manual_seed(int.from_bytes(blake2b(key.encode(), digest_size=7).digest()))
