"""Formulas against slow oracles written out over Python floats."""

import math
from statistics import fmean, pstdev, stdev

import pytest
import torch

from lightning_modules.formulas import (
    adapted_weight,
    centred_advantages,
    clipped_surrogate,
    clipped_tokens,
    constant_length_mean,
    group_advantages,
    kl_k1,
    kl_k2,
    kl_k3,
    leave_one_out_advantages,
    sequence_log_ratio,
    sequence_mean,
    sequence_token_log_ratio,
    token_log_ratio,
    token_mean,
    with_kl_gradient,
)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def right_padded(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Masks of 1 ... width tokens, as completions have them."""
    length_N = torch.randint(1, width + 1, (rows, 1), generator=torch.Generator().manual_seed(seed))
    return torch.arange(width) < length_N


def test_group_advantages_equal_the_definition():
    rewards = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [[(r - fmean(row)) / (pstdev(row) + 1e-6) for r in row] for row in rewards.tolist()]
    assert torch.allclose(group_advantages(rewards), torch.tensor(expected, dtype=torch.float64))


def test_group_advantages_with_the_std_of_a_sample():
    rewards = numbers(5, 4)
    expected = [[(r - fmean(row)) / (stdev(row) + 1e-6) for r in row] for row in rewards.tolist()]
    assert torch.allclose(group_advantages(rewards, correction=1), torch.tensor(expected, dtype=torch.float64))


def test_centred_advantages_equal_the_definition():
    rewards = numbers(5, 4)
    expected = [[r - fmean(row) for r in row] for row in rewards.tolist()]
    assert torch.allclose(centred_advantages(rewards), torch.tensor(expected, dtype=torch.float64))


def test_leave_one_out_takes_the_mean_of_the_others_off():
    rewards = numbers(5, 4)
    expected = [[r - fmean(row[:g] + row[g + 1 :]) for g, r in enumerate(row)] for row in rewards.tolist()]
    assert torch.allclose(leave_one_out_advantages(rewards), torch.tensor(expected, dtype=torch.float64))


ADVANTAGES = (group_advantages, centred_advantages, leave_one_out_advantages)


@pytest.mark.parametrize("advantages", ADVANTAGES)
def test_equal_rewards_give_exactly_zero(advantages):
    assert (advantages(torch.full((3, 7), 0.1)) == 0).all()


@pytest.mark.parametrize("advantages", ADVANTAGES)
def test_a_group_of_one_is_refused(advantages):
    with pytest.raises(ValueError, match=r"group\.size"):
        advantages(torch.zeros(3, 1))


@pytest.mark.parametrize("advantages", ADVANTAGES)
def test_advantages_carry_no_gradient(advantages):
    assert not advantages(torch.rand(3, 4, requires_grad=True)).requires_grad


def surrogate_oracle(log_ratio: float, advantage: float, low: float, high: float, dual: float | None) -> float:
    ratio = math.exp(log_ratio)
    gain = min(ratio * advantage, max(min(ratio, 1 + high), 1 - low) * advantage)
    return gain if dual is None or advantage >= 0 else max(gain, dual * advantage)


@pytest.mark.parametrize(("low", "high", "dual"), [(0.2, 0.2, None), (0.2, 0.28, None), (0.2, 0.2, 3.0), (0.1, 0.5, 1.6)])
def test_surrogate_equals_the_definition(low, high, dual):
    log_ratio, advantage = 1.5 * numbers(8, 9, seed=1), numbers(8, 9, seed=2)
    expected = [
        [surrogate_oracle(*terms, low, high, dual) for terms in zip(*rows, strict=True)]
        for rows in zip(log_ratio.tolist(), advantage.tolist(), strict=True)
    ]
    gain = clipped_surrogate(log_ratio, advantage, low=low, high=high, dual=dual)
    assert torch.allclose(gain, torch.tensor(expected, dtype=torch.float64))


def test_surrogate_passes_no_gradient_beyond_the_clip():
    log_ratio, advantage = numbers(8, 9, seed=1).requires_grad_(), numbers(8, 9, seed=2)
    clipped_surrogate(log_ratio, advantage, low=0.2, high=0.3).sum().backward()
    held = clipped_tokens(log_ratio, advantage, low=0.2, high=0.3)
    assert 0 < held.sum() < held.numel()
    assert torch.equal(log_ratio.grad == 0, held)


def test_dual_clip_stops_the_gradient_of_a_bad_token_far_above_one():
    log_ratio = torch.tensor([2.0, 2.0, 0.5, -0.5]).requires_grad_()
    clipped_surrogate(log_ratio, torch.tensor([-1.0, 1.0, -1.0, -1.0]), low=0.2, high=0.2, dual=3.0).sum().backward()
    assert (log_ratio.grad != 0).tolist() == [False, False, True, False]


def test_tokens_that_either_clip_holds_back_are_those_without_gradient():
    log_ratio = torch.linspace(-3, 3, 41, requires_grad=True)
    for advantage in (-1.0, 1.0):
        clip = {"low": 0.2, "high": 0.3, "dual": 3.0}
        (slope,) = torch.autograd.grad(clipped_surrogate(log_ratio, torch.tensor(advantage), **clip).sum(), log_ratio)
        assert torch.equal(clipped_tokens(log_ratio, torch.tensor(advantage), **clip), slope == 0)


def test_tokens_of_a_sequence_ratio_answer_for_their_own_advantage():
    """Oracle: with s the completion's ratio, d/dlogp_t of sum_t s_t A_t is s A_t; with one A it is that of the sequence ratio."""
    logp, old, mask = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    advantage = torch.tensor([[1.0, 1.0, -3.0, 1.0], [2.0, 2.0, 2.0, 0.0]])
    whole, token = sequence_log_ratio(logp, old, mask), sequence_token_log_ratio(logp, old, mask)
    assert torch.equal(whole, token)
    (slope,) = torch.autograd.grad((token.exp() * advantage).sum(), logp)
    assert torch.allclose(slope, whole.exp().detach() * advantage)
    of_one, of_tokens = (torch.autograd.grad((r.exp() * advantage * mask)[1].sum(), logp)[0] for r in (
        sequence_log_ratio(logp, old, mask), sequence_token_log_ratio(logp, old, mask)))  # fmt: skip
    assert torch.allclose(of_one[1] * mask[1], of_tokens[1] * mask[1], atol=1e-6)


def test_sequence_ratio_is_the_geometric_mean_of_token_ratios():
    logp, old, mask = numbers(6, 5, seed=1), numbers(6, 5, seed=2), right_padded(6, 5)
    ratios = token_log_ratio(logp, old).exp()
    for n, row in enumerate(sequence_log_ratio(logp, old, mask).exp().tolist()):
        kept = ratios[n][mask[n]].tolist()
        assert row == pytest.approx([math.prod(kept) ** (1 / len(kept))] * 5)


def test_sequence_ratio_shares_its_gradient_among_the_tokens():
    logp, mask = numbers(3, 4).requires_grad_(), right_padded(3, 4, seed=1)
    advantage = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    gain = sequence_log_ratio(logp, logp.detach(), mask).exp() * advantage
    sequence_mean(gain, mask).backward()
    expected = torch.where(mask, advantage / mask.sum(dim=1, keepdim=True) / 3, 0.0)
    assert torch.allclose(logp.grad, expected)


def expectation(weights: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
    return (weights.detach() * terms).sum()


@pytest.fixture
def policies():
    """Logits of a policy over five tokens, with gradient, and log-probabilities of a reference."""
    return numbers(5, seed=1).requires_grad_(), numbers(5, seed=2).log_softmax(-1)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_the_mean_of_k1_and_of_k3_is_the_divergence(policies, estimator):
    logits, reference = policies
    logp = logits.log_softmax(-1)
    exact = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=x) for x in (logits, reference)))
    assert torch.allclose(expectation(logp.exp(), estimator(logp, reference)), exact)


def test_k2_and_k3_are_never_negative():
    logp, reference = numbers(50, seed=1), numbers(50, seed=2)
    assert (kl_k2(logp, reference) >= 0).all()
    assert (kl_k3(logp, reference) >= 0).all()
    assert torch.allclose(
        kl_k2(logp, reference), torch.tensor([0.5 * (a - b) ** 2 for a, b in zip(logp, reference, strict=True)])
    )


def mean_gradient(policies, estimate) -> torch.Tensor:
    """Over all tokens by enumeration: what a loss of sampled tokens gives in the mean."""
    logits, reference = policies
    logp = logits.log_softmax(-1)
    return torch.autograd.grad(expectation(logp.exp(), estimate(logp, reference)), logits)[0]


def divergence_gradient(policies, *, reverse: bool = False) -> torch.Tensor:
    logits, reference = policies
    pair = [torch.distributions.Categorical(logits=x) for x in (logits, reference)]
    return torch.autograd.grad(torch.distributions.kl_divergence(*(pair[::-1] if reverse else pair)), logits)[0]


@pytest.mark.parametrize("estimator", [kl_k1, kl_k2, kl_k3])
def test_every_estimator_can_be_given_the_gradient_of_the_divergence(policies, estimator):
    def estimate(logp, reference):
        return with_kl_gradient(estimator(logp, reference), logp, reference)

    assert torch.allclose(mean_gradient(policies, estimate), divergence_gradient(policies))
    logp, reference = policies[0].log_softmax(-1), policies[1]
    assert torch.equal(estimate(logp, reference), estimator(logp, reference))


def test_gradients_of_the_bare_estimators_are_those_documented(policies):
    assert torch.allclose(mean_gradient(policies, kl_k1), torch.zeros(5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(mean_gradient(policies, kl_k2), divergence_gradient(policies))
    assert torch.allclose(mean_gradient(policies, kl_k3), divergence_gradient(policies, reverse=True))


def mean_oracle(terms, mask, row_weight, divisor) -> float:
    total = 0.0
    for row, kept in zip(terms.tolist(), mask.tolist(), strict=True):
        total += row_weight(sum(kept)) * sum(x for x, keep in zip(row, kept, strict=True) if keep)
    return total / divisor


def test_means_equal_their_definitions():
    terms, mask = numbers(7, 6), right_padded(7, 6)
    assert token_mean(terms, mask).item() == pytest.approx(mean_oracle(terms, mask, lambda n: 1, int(mask.sum())))
    assert sequence_mean(terms, mask).item() == pytest.approx(mean_oracle(terms, mask, lambda n: 1 / n, 7))
    assert constant_length_mean(terms, mask, length=9).item() == pytest.approx(mean_oracle(terms, mask, lambda n: 1, 7 * 9))


@pytest.mark.parametrize("kind", ["token", "sequence", "constant"])
def test_means_of_uneven_parts_add_up_to_the_mean_of_the_whole(kind):
    terms, mask = numbers(7, 6), right_padded(7, 6)

    def mean(terms, mask, tokens, sequences):
        if kind == "token":
            return token_mean(terms, mask, tokens=tokens)
        if kind == "sequence":
            return sequence_mean(terms, mask, sequences=sequences)
        return constant_length_mean(terms, mask, length=9, sequences=sequences)

    whole = mean(terms, mask, None, None)
    parts = [mean(terms[r], mask[r], mask.sum() / 3, 7 / 3) for r in (slice(0, 1), slice(1, 3), slice(3, 7))]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item())  # Lightning divides by the number of parts


@pytest.mark.parametrize("mean", [token_mean, sequence_mean, lambda x, m: constant_length_mean(x, m, length=1)])
def test_means_ignore_what_is_masked_even_if_infinite(mean):
    assert mean(torch.tensor([[1.0, math.inf]]), torch.tensor([[True, False]])).item() == 1.0


@pytest.mark.parametrize(("kl", "factor"), [(0.0, 0.98), (0.045, 0.99), (0.05, 1.0), (0.055, 1.01), (9.0, 1.02)])
def test_the_weight_of_the_penalty_follows_the_divergence(kl, factor):
    assert adapted_weight(0.3, kl, target=0.05) == pytest.approx(0.3 * factor)
