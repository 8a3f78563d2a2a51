"""Formulas of critics against slow oracles written out over Python floats."""

from statistics import pvariance

import pytest
import torch

from lightning_modules.formulas import (
    clipped_value_loss,
    explained_variance,
    generalised_advantages,
    mean_and_variance,
    moments,
)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spans(rows: int, width: int) -> torch.Tensor:
    """Masks of completions after prompts, as rows have them."""
    place = torch.arange(width)
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, width // 2, (rows, 1), generator=generator)
    return (place >= first) & (place < first + torch.randint(1, width // 2, (rows, 1), generator=generator))


def advantages_oracle(rewards: list[float], values: list[float], discount: float, decay: float) -> list[float]:
    """The definition: a weighted sum of temporal differences, each sum written out."""
    ahead = [*values[1:], 0.0]
    deltas = [r + discount * after - v for r, v, after in zip(rewards, values, ahead, strict=True)]
    return [sum((discount * decay) ** j * d for j, d in enumerate(deltas[t:])) for t in range(len(deltas))]


@pytest.mark.parametrize(("discount", "decay"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.99, 0.0)])
def test_advantages_equal_the_definition(discount, decay):
    reward, value, mask = numbers(7, 12, seed=1), numbers(7, 12, seed=2), spans(7, 12)
    found = generalised_advantages(reward, value, mask, discount=discount, decay=decay)
    for n in range(7):
        kept = mask[n]
        assert found[n, kept].tolist() == pytest.approx(
            advantages_oracle(reward[n, kept].tolist(), value[n, kept].tolist(), discount, decay)
        )
    assert (found[~mask] == 0).all()


def test_with_full_decay_an_advantage_is_the_return_to_come_less_the_value():
    reward, value, mask = numbers(5, 10, seed=1), numbers(5, 10, seed=2), spans(5, 10)
    found = generalised_advantages(reward, value, mask, decay=1.0)
    for n in range(5):
        rewards, values = reward[n, mask[n]].tolist(), value[n, mask[n]].tolist()
        assert found[n, mask[n]].tolist() == pytest.approx([sum(rewards[t:]) - v for t, v in enumerate(values)])


def test_a_perfect_critic_leaves_no_advantage():
    reward, mask = numbers(4, 9), spans(4, 9)
    kept = torch.where(mask, reward, 0.0)
    value = kept.flip(1).cumsum(1).flip(1)
    assert torch.allclose(generalised_advantages(reward, value, mask, decay=0.7), torch.zeros_like(reward), atol=1e-12)


def test_advantages_carry_no_gradient():
    ones = torch.ones(2, 3, requires_grad=True)
    assert not generalised_advantages(ones, ones, torch.ones(2, 3, dtype=torch.bool)).requires_grad


def loss_oracle(value: float, old: float, target: float, clip: float | None) -> float:
    losses = [(value - target) ** 2 / 2]
    if clip is not None:
        losses.append((max(min(value, old + clip), old - clip) - target) ** 2 / 2)
    return max(losses)


@pytest.mark.parametrize("clip", [None, 0.2, 1.0])
def test_the_value_loss_equals_the_definition(clip):
    tensors = [numbers(6, 8, seed=seed) for seed in (1, 2, 3)]
    expected = [loss_oracle(*terms, clip) for terms in zip(*(t.flatten().tolist() for t in tensors), strict=True)]
    assert torch.allclose(clipped_value_loss(*tensors, clip=clip).flatten(), torch.tensor(expected, dtype=torch.float64))


def test_a_value_that_is_better_but_far_from_the_old_one_has_no_gradient():
    value = torch.tensor([0.5, 0.1, -0.5], requires_grad=True)  # the old one is 0, the return 1, the bound 0.2
    clipped_value_loss(value, torch.zeros(3), torch.ones(3), clip=0.2).sum().backward()
    assert (value.grad != 0).tolist() == [False, True, True]


def test_explained_variance_equals_the_definition_and_adds_up_over_parts():
    returns, values, mask = numbers(6, 8, seed=1), numbers(6, 8, seed=2), spans(6, 8)
    kept = [(r, v) for r, v, m in zip(*(t.flatten().tolist() for t in (returns, values, mask)), strict=True) if m]
    expected = 1 - pvariance([r - v for r, v in kept]) / pvariance([r for r, _ in kept])
    parts = [slice(0, 2), slice(2, 6)]
    sums = [sum(moments(terms[p], mask[p]) for p in parts) for terms in (returns, returns - values)]
    assert float(explained_variance(*sums)) == pytest.approx(expected)
    assert float(explained_variance(*(s / 7 for s in sums))) == pytest.approx(expected)
    assert float(mean_and_variance(sums[0])[1]) == pytest.approx(pvariance([r for r, _ in kept]))


def test_a_constant_critic_explains_nothing_and_equal_returns_cannot_be_explained():
    returns, mask = numbers(3, 4), torch.ones(3, 4, dtype=torch.bool)
    assert float(explained_variance(moments(returns, mask), moments(returns - 5, mask))) == pytest.approx(0)
    flat = moments(torch.ones(3, 4), mask)
    assert torch.isnan(explained_variance(flat, flat))
