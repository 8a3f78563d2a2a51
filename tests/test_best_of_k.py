"""Advantages for the best of k and for likelihood, against enumeration: of all subsets, and of all groups that can be sampled."""

import math
from itertools import combinations, product
from statistics import fmean, pstdev

import pytest
import torch

from lightning_modules import BestOfKModule, MaxRLModule, PKPOModule
from lightning_modules.formulas import (
    best_of_k_advantages,
    group_advantages,
    leave_one_out_advantages,
    marginal_advantages,
    maximum_likelihood_advantages,
)
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.rewards import StrictReward
from lightning_modules.schedules import Ramp

ROWS = [
    [0.0, 1.0, 0.0, 0.0, 1.0, 0.0], [0.2, 0.9, 0.2, 0.5, 0.1, 0.7], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, -1.0, 2.0, -3.0, 0.5, 0.5],
]  # fmt: skip


@pytest.mark.parametrize("k", range(2, 7))
def test_marginal_advantages_equal_the_mean_over_all_subsets(k):
    found = marginal_advantages(torch.tensor(ROWS), k=k)
    for row, advantages in zip(ROWS, found.tolist(), strict=True):
        for g, advantage in enumerate(advantages):
            others = list(combinations(row[:g] + row[g + 1 :], k - 1))
            expected = k * fmean(max(row[g], *some) - max(some) for some in others)
            assert advantage == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("k", range(1, 6))
def test_best_of_k_advantages_equal_those_of_groups_drawn_in_every_way(k):
    """Oracle: every k-subset is one sample of reward max, normalised over all of them; a completion has the mean of its own."""
    found = best_of_k_advantages(torch.tensor(ROWS), k=k)
    for row, advantages in zip(ROWS, found.tolist(), strict=True):
        subsets = list(combinations(range(6), k))
        best = [max(row[g] for g in subset) for subset in subsets]
        mean, std = fmean(best), pstdev(best)
        for g, advantage in enumerate(advantages):
            own = fmean(reward for reward, subset in zip(best, subsets, strict=True) if g in subset)
            assert advantage == pytest.approx((own - mean) / (std + 1e-6) if std else 0.0, abs=1e-5)


def test_with_right_and_wrong_alone_they_are_the_published_closed_form():
    """Pass@k training (arXiv:2508.10751): from the number of wrong completions among all."""
    size, wrong, k = 8, 5, 3
    found = best_of_k_advantages(torch.tensor([[1.0] * (size - wrong) + [0.0] * wrong]), k=k)[0]
    mean = 1 - math.comb(wrong, k) / math.comb(size, k)
    std = math.sqrt(mean * (1 - mean))
    assert found[0].item() == pytest.approx((1 - mean) / std, abs=1e-4)
    assert found[-1].item() == pytest.approx(
        (1 - mean - math.comb(wrong - 1, k - 1) / math.comb(size - 1, k - 1)) / std, abs=1e-4
    )


def test_the_best_of_one_is_what_it_was():
    rewards = torch.tensor(ROWS)
    assert torch.equal(marginal_advantages(rewards, k=1), leave_one_out_advantages(rewards))
    assert torch.allclose(best_of_k_advantages(rewards, k=1), group_advantages(rewards), atol=1e-5)


def expected_gradient(logits, rewards, size, advantages):
    """Of the policy over len(rewards) answers: the mean over all groups of `size` samples of 1/G sum A grad log pi."""
    total, logp = 0.0, logits.log_softmax(-1)
    for group in product(range(len(rewards)), repeat=size):
        chosen = list(group)
        probability = logp[chosen].sum().exp().detach()
        advantage = advantages(torch.tensor([[rewards[a] for a in chosen]], dtype=torch.float32))[0]
        total = total + probability * (advantage * logp[chosen]).mean()
    return torch.autograd.grad(total, logits)[0]


def best_of(logits, rewards, k):
    """Expected highest reward of k samples, with its gradient."""
    probability = logits.softmax(-1)
    return sum(
        torch.stack([probability[a] for a in group]).prod() * max(rewards[a] for a in group)
        for group in product(range(len(rewards)), repeat=k)
    )


@pytest.mark.parametrize("rewards", [[0.0, 1.0, 0.0], [0.3, 1.0, -0.5]])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_marginal_advantages_are_an_unbiased_gradient_of_the_best_of_k(rewards, k):
    logits = torch.tensor([0.4, -1.0, 0.1], dtype=torch.float64, requires_grad=True)
    found = expected_gradient(logits, rewards, 4, lambda r: marginal_advantages(r, k=k))
    assert torch.allclose(found, torch.autograd.grad(best_of(logits, rewards, k), logits)[0], atol=1e-6)


def test_likelihood_advantages_are_an_unbiased_gradient_of_the_series_of_log_p():
    """sum over k < G of pass@k / k. Without the rule that a group of failures has no gradient it would be k <= G."""
    logits = torch.tensor([0.4, -1.0, 0.1], dtype=torch.float64, requires_grad=True)
    found = expected_gradient(logits, [0.0, 1.0, 0.0], 4, maximum_likelihood_advantages)
    p = logits.softmax(-1)[1]
    series = sum((1 - (1 - p) ** k) / k for k in range(1, 4))
    assert torch.allclose(found, torch.autograd.grad(series, logits)[0], atol=1e-6)


def test_likelihood_advantages_equal_the_definition():
    rewards = [[0.0, 1.0, 0.0, 0.0], [0.5, 1.0, 0.25, 0.25], [0.0] * 4, [0.1] * 4]
    found = maximum_likelihood_advantages(torch.tensor(rewards))
    expected = [[(r - fmean(row)) / fmean(row) if len(set(row)) > 1 else 0.0 for r in row] for row in rewards]
    assert torch.allclose(found, torch.tensor(expected))
    with pytest.raises(ValueError, match="leave out penalties"):
        maximum_likelihood_advantages(torch.tensor([[1.0, -0.1]]))


FORMULAS = (lambda r: marginal_advantages(r, k=3), lambda r: best_of_k_advantages(r, k=3), maximum_likelihood_advantages)


@pytest.mark.parametrize("advantages", FORMULAS)
def test_equal_rewards_give_exactly_zero_and_no_gradient(advantages):
    assert (advantages(torch.full((3, 7), 0.1)) == 0).all()
    assert not advantages(torch.rand(3, 7, requires_grad=True)).requires_grad


def test_where_every_k_hold_a_right_one_nothing_is_learned():
    found = best_of_k_advantages(torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]), k=4)
    assert (found == 0).all()


@pytest.mark.parametrize("k", [0, 7])
def test_a_k_that_no_group_holds_is_refused(k):
    with pytest.raises(ValueError, match="at most 6"):
        marginal_advantages(torch.tensor(ROWS), k=k)
    with pytest.raises(ValueError, match="at most 5"):
        best_of_k_advantages(torch.tensor(ROWS), k=max(k - 1, 0))


@pytest.mark.parametrize("settings", [{"k": 0}, {"k": 5}, {"k": Ramp(2, 5)}, {"std_correction": 1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=r"group\.size=4|std_correction"):
        PKPOModule("start", StrictReward(), group=GroupSettings(4), **settings)
    with pytest.raises(ValueError, match="at most 3"):
        BestOfKModule("start", StrictReward(), group=GroupSettings(4), k=4)


def test_modules_take_their_formula():
    rewards, group = torch.tensor([[1.0, 0.0, 0.0, 1.0]]), GroupSettings(4)
    for kind, formula in (
        (PKPOModule, lambda r: marginal_advantages(r, k=2)), (BestOfKModule, lambda r: best_of_k_advantages(r, k=2))
    ):  # fmt: skip
        assert torch.equal(kind("start", StrictReward(), k=2, group=group).advantages(rewards), formula(rewards))
    assert torch.equal(
        MaxRLModule("start", StrictReward(), group=group).advantages(rewards), maximum_likelihood_advantages(rewards)
    )


def test_a_ramp_is_a_line_between_two_shares_of_the_run():
    ramp = Ramp(8.0, 1.0, start=0.25, end=0.75)
    assert [ramp(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [8.0, 8.0, 4.5, 1.0, 1.0]
    with pytest.raises(ValueError, match="start < end"):
        Ramp(1.0, 2.0, start=0.5, end=0.5)
