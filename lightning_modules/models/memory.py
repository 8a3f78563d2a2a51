"""Memory of a device: what is free, and how many tokens a forward pass may have in it.

On a CPU there is no figure to go by, as memory is shared and swapped, and results should not depend on it: a constant is taken.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.models.label_scores import LOGITS_AT_ONCE

ON_A_CPU = 1 << 17  # tokens of a pass
SHARE = 0.6  # of free memory that a pass may keep for its backward pass; the rest is for what comes and goes
TRIAL = (8, 256)  # rows and tokens of the pass that is measured
OPTIMIZER_BYTES = 12  # of a parameter: its gradient and Adam's two moments, in float32
LOGITS_BYTES = 5 * 4 * LOGITS_AT_ONCE  # logits at once, their gradients and what is between


def free_bytes(device: torch.device) -> int:
    """Bytes of a CUDA device that can be allocated now, those that PyTorch keeps for reuse included."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def kept_bytes(forward: Callable[[Tensor], Any], device: torch.device) -> float:
    """Bytes that a forward pass on [B, T] ids keeps for its backward pass, for each token: measured."""

    def kept(rows: int) -> int:
        before = torch.cuda.memory_allocated(device)
        outputs = forward(torch.zeros(rows, TRIAL[1], dtype=torch.int64, device=device))
        bytes_ = torch.cuda.memory_allocated(device) - before
        del outputs
        return bytes_

    with torch.inference_mode(False), torch.enable_grad():
        kept(1)  # libraries allocate their workspaces
        return (kept(2 * TRIAL[0]) - kept(TRIAL[0])) / (TRIAL[0] * TRIAL[1])


def learning_bytes(module: nn.Module) -> int:
    """Bytes of gradients and of an optimiser's states, of the parameters of this process."""
    learned = (p for p in module.parameters() if p.requires_grad)
    return OPTIMIZER_BYTES * sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in learned)


def pass_tokens(forward: Callable[[Tensor], Any], device: torch.device, still: int) -> int:
    """How many tokens a forward pass with gradients may have.

    Args:
        forward: runs the models of a pass on [B, T] ids and returns what their backward passes need, logits left out.
        device: of the models.
        still: bytes that will be allocated beside passes, and are not yet.
    """
    if device.type != "cuda":
        return ON_A_CPU
    return max(1, int(SHARE * (free_bytes(device) - still - LOGITS_BYTES) / kept_bytes(forward, device)))
