"""pass@k, unbiased (arXiv:2107.03374, eq. 1)."""

import torch
from torch import Tensor


def pass_at_k(correct_N: Tensor, *, n: int | Tensor, k: int) -> Tensor:
    """P(at least one of k draws without replacement passes) = 1 - C(n-c, k) / C(n, k).

    Args:
        correct_N: [N] int, number of the n samples of each problem that passed.
        n: samples per problem; [N] int if it varies.
        k: draws.

    Returns:
        [N] float64; nan for problems with fewer than k samples, which have no unbiased estimate.

    Raises:
        ValueError: k is not within 1 ... n (the largest n if it varies).
    """
    n_N = torch.as_tensor(n, dtype=torch.float64, device=correct_N.device).expand(correct_N.shape)
    most = int(n_N.max()) if len(n_N) else k
    if not 1 <= k <= most:
        raise ValueError(f"pass_at_k: need 1 <= k <= n, got k={k}, n={most}; sample more completions or lower k.")
    draw_K = torch.arange(k, device=correct_N.device)
    failing_NK = ((n_N - correct_N.double())[:, None] - draw_K) / (n_N[:, None] - draw_K).clamp(min=1)
    return torch.where(n_N >= k, 1 - failing_NK.clamp(min=0).prod(dim=1), torch.nan)


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4 ... up to n, and n: the reported values of k."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})
