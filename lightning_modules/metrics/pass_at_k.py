"""pass@k, unbiased (arXiv:2107.03374, eq. 1)."""

import torch
from torch import Tensor


def pass_at_k(correct_N: Tensor, *, n: int, k: int) -> Tensor:
    """P(at least one of k draws without replacement passes) = 1 - C(n-c, k) / C(n, k).

    Args:
        correct_N: [N] int, samples of each problem that passed, out of n.
        n: samples per problem.
        k: draws.

    Returns:
        [N] float64.

    Raises:
        ValueError: k is not within 1 ... n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass_at_k: need 1 <= k <= n, got k={k}, n={n}; sample more completions or lower k.")
    draw_K = torch.arange(k, device=correct_N.device)
    return 1 - ((n - correct_N.double()[:, None] - draw_K) / (n - draw_K)).clamp(min=0).prod(dim=1)
