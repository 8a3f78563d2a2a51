"""torch's Muon in the fast precision of the device, on all matrices of a shape at once.

torch.optim.Muon always orthogonalises in bfloat16, which is tens of times slower on a CPU without bfloat16 units.
Not here: which parameters are Muon's (factories.py).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalised(
    matrices_NRC: Tensor,
    coefficients: tuple[float, float, float],
    steps: int,
    *,
    eps: float = 1e-7,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Set all singular values to about 1 by the quintic Newton-Schulz iteration (kellerjordan.github.io/posts/muon).

    X <- a X + (b A + c A A) X,  A = X X^T,  from X = matrix / (its Frobenius norm).

    Args:
        matrices_NRC: [N, R, C], orthogonalised one by one.
        coefficients: (a, b, c).
        steps: of the iteration.
        eps: lower bound of the norm.
        dtype: of the computation; None: that of the matrices.

    Returns:
        [N, R, C] in `dtype`; singular values of about 0.5 to 1.3 with Keller Jordan's coefficients.
    """
    a, b, c = coefficients
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.to(dtype or matrices_NRC.dtype)
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU with bfloat16 units, else float32, so that results are the same on every CPU."""
    has_units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_units else torch.float32


class BatchedMuon(torch.optim.Muon):
    """torch.optim.Muon with the same settings, state and updates; see the top of this file for the difference."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrices in _by_shape(p for p in group["params"] if p.grad is not None):
                self._update(group, matrices)
        return loss

    def _update(self, group: dict[str, Any], matrices: list[Tensor]) -> None:
        """One step of N matrices of one shape."""
        directions_NRC = torch.stack([self._direction(group, matrix) for matrix in matrices])
        updates_NRC = orthogonalised(
            directions_NRC, group["ns_coefficients"], group["ns_steps"], eps=group["eps"], dtype=fast_dtype(directions_NRC.device)
        )
        rate = torch.optim._muon._adjust_lr(group["lr"], group["adjust_lr_fn"], matrices[0].shape)
        for matrix, update in zip(matrices, updates_NRC.unbind(), strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.to(matrix.dtype), alpha=-rate)

    def _direction(self, group: dict[str, Any], matrix: Tensor) -> Tensor:
        """The gradient's moving average, with lookahead if `nesterov`."""
        state, grad = self.state[matrix], matrix.grad
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        average = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        return grad.lerp(average, group["momentum"]) if group["nesterov"] else average


def _by_shape(matrices: Iterable[Tensor]) -> list[list[Tensor]]:
    shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        shapes[matrix.shape].append(matrix)
    return list(shapes.values())
