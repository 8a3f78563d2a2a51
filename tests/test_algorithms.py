"""Formulas against slow oracles written out over Python floats."""

import math
from statistics import fmean, pstdev

import pytest
import torch

from lightning_modules.algorithms import clipped_surrogate, group_advantages, kl_k3, token_mean


def test_group_advantages_equal_the_definition():
    rewards = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [[(r - fmean(row)) / (pstdev(row) + 1e-6) for r in row] for row in rewards.tolist()]
    assert torch.allclose(group_advantages(rewards), torch.tensor(expected, dtype=torch.float64))


def test_equal_rewards_give_exactly_zero():
    assert (group_advantages(torch.full((3, 7), 0.1)) == 0).all()


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="group_size"):
        group_advantages(torch.zeros(3, 1))


def surrogate_oracle(logp: float, old: float, advantage: float, clip: float) -> float:
    ratio = math.exp(logp - old)
    return min(ratio * advantage, max(min(ratio, 1 + clip), 1 - clip) * advantage)


def test_surrogate_equals_the_definition():
    draw = torch.Generator().manual_seed(1)
    logp, old, advantage = (torch.randn(6, 9, dtype=torch.float64, generator=draw) for _ in range(3))
    expected = [
        [surrogate_oracle(*terms, clip=0.2) for terms in zip(*rows, strict=True)]
        for rows in zip(logp.tolist(), old.tolist(), advantage.tolist(), strict=True)
    ]
    assert torch.allclose(clipped_surrogate(logp, old, advantage, clip=0.2), torch.tensor(expected, dtype=torch.float64))


def test_surrogate_passes_no_gradient_beyond_the_clip():
    logp = torch.tensor([0.5, 0.0, -0.5], requires_grad=True)
    clipped_surrogate(logp, torch.zeros(3), torch.tensor([1.0, 1.0, -1.0]), clip=0.2).sum().backward()
    assert logp.grad.tolist() == [0.0, 1.0, 0.0]


def test_k3_is_unbiased():
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    expected = (policy * (policy / reference).log()).sum()
    estimate = (policy * kl_k3(policy.log(), reference.log())).sum()
    assert estimate.item() == pytest.approx(expected.item())
    assert (kl_k3(policy.log(), reference.log()) >= 0).all()


def test_token_mean_counts_each_token_once_under_accumulation():
    draw = torch.Generator().manual_seed(2)
    terms, mask = torch.randn(8, 5, generator=draw), torch.rand(8, 5, generator=draw) < 0.6
    whole = token_mean(terms, mask)
    per_batch = mask.sum() / 4
    parts = [token_mean(t, m, tokens=per_batch) for t, m in zip(terms.chunk(4), mask.chunk(4), strict=True)]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item())  # Lightning divides by the number of parts


def test_token_mean_ignores_what_is_masked_even_if_infinite():
    assert token_mean(torch.tensor([[1.0, math.inf]]), torch.tensor([[True, False]])).item() == 1.0
