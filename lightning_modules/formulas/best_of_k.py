"""Advantages for the best of k: how much a completion adds to the highest reward among k of its group.

With rewards of 0 and 1 the best of k is pass@k. All means are exact, over every choice of k of the G completions, from sorted
rewards and binomials; no subset is drawn.
"""

from math import comb

import torch
from torch import Tensor

from lightning_modules.formulas.advantages import leave_one_out_advantages


def marginal_advantages(rewards_BG: Tensor, *, k: int) -> Tensor:
    """A_g = k E_I[ max_I r - max_(I without g) r ],  I over the k-subsets that hold g (PKPO, arXiv:2505.15201, eq. 33).

    Times grad log pi and averaged over the group it is an unbiased gradient of the expected best of k; the baseline, the best of
    the other k - 1, changes its variance alone. Only a completion that beats k - 1 others gains. k = 1: RLOO.

    Args:
        rewards_BG: [B, G] float.
        k: 1 <= k <= G.

    Returns:
        [B, G] float32, no gradient; never negative for k > 1; equal rewards give exactly 0.

    Raises:
        ValueError: k is out of range, or G < 2.
    """
    size = _size(rewards_BG, k)
    if k == 1:
        return leave_one_out_advantages(rewards_BG)
    sorted_BG, order_BG = rewards_BG.detach().double().sort(dim=1)
    # the others of g's subset lie below g, and the highest of them is j: k - 2 further ones lie below j
    ways_GG = torch.tensor([[comb(j, k - 2) * (j < g) for j in range(size)] for g in range(size)], dtype=torch.float64)
    lead_BGG = sorted_BG[:, :, None] - sorted_BG[:, None, :]
    gain_BG = (lead_BGG * ways_GG.to(lead_BGG.device)).sum(dim=2) * (k / comb(size - 1, k - 1))
    return _unsorted(gain_BG, order_BG)


def best_of_k_advantages(rewards_BG: Tensor, *, k: int, eps: float = 1e-6) -> Tensor:
    """A_g = ( E[max_I r | g in I] - E[max_I r] ) / std_I max_I r,  I over the k-subsets of the group.

    The analytic advantages of pass@k training (arXiv:2508.10751): each k-subset is one sample, whose reward is its best, and
    a completion has the mean advantage of its subsets. k = 1: GRPO.

    Args:
        rewards_BG: [B, G] float.
        k: 1 <= k < G; the only subset of size G would be its own mean.
        eps: reward units, added to the std; exactly 0 where no std exceeds a tenth of it.

    Returns:
        [B, G] float32, zero mean over G, no gradient.

    Raises:
        ValueError: k is out of range, or G < 2.
    """
    size = _size(rewards_BG, k, most=rewards_BG.shape[-1] - 1)
    shifted_BG = (rewards_BG - rewards_BG[:, :1]).detach().double()
    sorted_BG, order_BG = shifted_BG.sort(dim=1)
    highest_G = torch.tensor([comb(j, k - 1) / comb(size, k) for j in range(size)], dtype=torch.float64).to(sorted_BG.device)
    # given g: it is the highest itself, or one above it is, with k - 2 others below that one
    given_GG = torch.tensor(
        [[comb(j, k - 1) if j == g else _choose(j - 1, k - 2) * (j > g) for j in range(size)] for g in range(size)],
        dtype=torch.float64,
    )
    given_GG = given_GG.to(sorted_BG.device) / comb(size - 1, k - 1)
    mean_B1 = (sorted_BG * highest_G).sum(dim=1, keepdim=True)
    std_B1 = ((sorted_BG - mean_B1).square() * highest_G).sum(dim=1, keepdim=True).sqrt()
    centred_BG = torch.where(std_B1 > eps / 10, sorted_BG @ given_GG.T - mean_B1, 0.0)
    return _unsorted(centred_BG / (std_B1 + eps), order_BG)


def _choose(n: int, k: int) -> int:
    """Ways to choose; of nothing there is none but to choose nothing."""
    return comb(n, k) if n >= 0 and k >= 0 else 0


def _unsorted(sorted_BG: Tensor, order_BG: Tensor) -> Tensor:
    return torch.zeros_like(sorted_BG).scatter(1, order_BG, sorted_BG).float()


def _size(rewards_BG: Tensor, k: int, most: int | None = None) -> int:
    size: int = rewards_BG.shape[-1]
    most = size if most is None else most
    if rewards_BG.ndim != 2 or size < 2 or not 1 <= k <= most:
        raise ValueError(
            f"best of k: k={k} of groups {tuple(rewards_BG.shape)}; k must be at least 1 and at most "
            f"{most}; lower `model.init_args.k`, or raise `group.size`."
        )
    return size
