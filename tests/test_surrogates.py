"""Surrogates, weights of sampler and entropy, against oracles over Python floats and by enumeration."""

import math
from statistics import fmean

import pytest
import torch

from lightning_modules.formulas import (
    binary_divergence,
    cispo_surrogate,
    covariance_terms,
    drawn_within,
    entropy_bonus,
    highest,
    sampler_weights,
    sapo_surrogate,
    strays,
)
from lightning_modules.policy.sampler_correction import SamplerCorrection, sampler_gap
from lightning_modules.policy.surrogate import CISPO, SAPO, ClipCov, DivergenceMask, KLCov, PolicyLoss, UpdateTokens
from lightning_modules.policy.trust_region import Clip


def numbers(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def tokens():
    """Eight completions of up to nine tokens, whose ratios are those of their probabilities."""
    old = -numbers(8, 9, seed=1).abs() - 0.1
    logp = (old + numbers(8, 9, seed=2, scale=0.6)).clamp(max=-0.01).requires_grad_()
    mask = torch.arange(9) < torch.tensor([[9], [3], [1], [7], [8], [2], [5], [9]])
    advantage = torch.where(mask, numbers(8, 1, seed=3).expand(8, 9), 0.0)
    return UpdateTokens(logp - old, advantage, logp, old, mask)


def slopes(surrogate, tokens):
    return torch.autograd.grad(surrogate[tokens.mask_NT].sum(), tokens.logp_NT)[0]


def each(tokens):
    """(log ratio, advantage, log pi, log pi_old) of every sampled token, in order."""
    columns = (tokens.log_ratio_NT, tokens.advantage_NT, tokens.logp_NT, tokens.logp_old_NT)
    return list(zip(*(column[tokens.mask_NT].tolist() for column in columns), strict=True))


def test_cispo_weighs_the_log_probability_by_a_bounded_ratio(tokens):
    found = cispo_surrogate(tokens.log_ratio_NT, tokens.logp_NT, tokens.advantage_NT, most=1.3)
    expected = [min(math.exp(ratio), 1.3) * advantage for ratio, advantage, *_ in each(tokens)]
    assert torch.allclose(slopes(found, tokens)[tokens.mask_NT], torch.tensor(expected, dtype=torch.float64))
    values = [slope * logp for slope, (_, _, logp, _) in zip(expected, each(tokens), strict=True)]
    assert torch.allclose(found[tokens.mask_NT], torch.tensor(values, dtype=torch.float64))


def test_sapo_is_the_gate_of_its_definition(tokens):
    found = sapo_surrogate(tokens.log_ratio_NT, tokens.advantage_NT, gain=1.5, loss=3.0)
    for value, (ratio, advantage, *_) in zip(found[tokens.mask_NT].tolist(), each(tokens), strict=True):
        tau = 1.5 if advantage > 0 else 3.0
        assert value == pytest.approx(advantage * 4 / tau / (1 + math.exp(-tau * (math.exp(ratio) - 1))))


@pytest.mark.parametrize("loss", [Clip(), CISPO(), SAPO(), DivergenceMask(), KLCov()])
def test_before_any_update_every_surrogate_has_the_gradient_of_the_policy(loss, tokens):
    logp = tokens.logp_NT.detach().requires_grad_()
    same = UpdateTokens(logp - logp.detach(), tokens.advantage_NT, logp, logp.detach(), tokens.mask_NT)
    assert torch.allclose(slopes(loss.surrogate(same), same), torch.where(same.mask_NT, same.advantage_NT, 0.0))
    assert not loss.held_back(same).any()


def test_divergences_are_those_of_two_outcomes():
    logp, old = torch.tensor([0.3, 0.9, 1e-4]).double().log(), torch.tensor([0.5, 0.2, 2e-4]).double().log()
    pairs = list(zip(logp.exp().tolist(), old.exp().tolist(), strict=True))
    assert binary_divergence(logp, old, kind="tv").tolist() == pytest.approx([abs(p - q) for p, q in pairs])
    expected = [q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) for p, q in pairs]
    assert binary_divergence(logp, old, kind="kl").tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["tv", "kl"])
def test_divergence_masks_leave_out_what_is_far_and_pushed_on(kind, tokens):
    loss = DivergenceMask(0.1, kind)
    divergence = binary_divergence(tokens.logp_NT, tokens.logp_old_NT, kind=kind)[tokens.mask_NT].tolist()
    held = [
        far > 0.1 and ((ratio > 0 and advantage > 0) or (ratio < 0 and advantage < 0))
        for far, (ratio, advantage, *_) in zip(divergence, each(tokens), strict=True)
    ]
    assert loss.held_back(tokens)[tokens.mask_NT].tolist() == held
    assert 0 < sum(held) < len(held)
    expected = [
        0.0 if out else math.exp(ratio) * advantage for out, (ratio, advantage, *_) in zip(held, each(tokens), strict=True)
    ]
    assert slopes(loss.surrogate(tokens), tokens)[tokens.mask_NT].tolist() == pytest.approx(expected)


def test_a_rare_token_strays_in_ratio_but_not_in_probability():
    ratio, advantage = torch.tensor([1.0]), torch.tensor([1.0])
    rare, old = torch.tensor([1e-3]).log() + ratio, torch.tensor([1e-3]).log()
    assert not strays(ratio, advantage, binary_divergence(rare, old, kind="tv"), bound=0.1).any()
    assert Clip().held_back(UpdateTokens(ratio, advantage, rare, old, torch.tensor([True]))).all()


def covariances(tokens):
    logps, advantages = ([row[i] for row in each(tokens)] for i in (2, 1))
    return [(logp - fmean(logps)) * (a - fmean(advantages)) for logp, a in zip(logps, advantages, strict=True)]


def test_the_mean_of_the_covariance_terms_is_the_covariance(tokens):
    found = covariance_terms(tokens.logp_NT, tokens.advantage_NT, tokens.mask_NT)
    assert found[tokens.mask_NT].tolist() == pytest.approx(covariances(tokens))
    assert (found[~tokens.mask_NT] == -math.inf).all()


def test_clip_cov_takes_tokens_of_high_covariance_out(tokens):
    torch.manual_seed(0)
    loss, terms = ClipCov(share=0.1, low=0.05, high=0.6), covariances(tokens)
    slope = slopes(loss.surrogate(tokens), tokens)[tokens.mask_NT]
    clipped = slopes(Clip().surrogate(tokens), tokens)[tokens.mask_NT]
    out = ((slope == 0) & (clipped != 0)).tolist()
    assert sum(out) == int(0.1 * len(out))
    assert all(0.05 < term < 0.6 for term, gone in zip(terms, out, strict=True) if gone)
    assert torch.equal(slope[~torch.tensor(out)], clipped[~torch.tensor(out)])


def test_tokens_drawn_differ_and_are_never_more_than_there_are():
    terms = torch.tensor([[0.0, 2.0, 3.0], [4.0, 9.0, 2.5]])
    torch.manual_seed(0)
    draws = {tuple(drawn_within(terms, count=2, low=1.0, high=5.0).flatten().nonzero().flatten().tolist()) for _ in range(50)}
    assert {place for draw in draws for place in draw} == {1, 2, 3, 5} and {len(draw) for draw in draws} == {2}
    assert drawn_within(terms, count=9, low=1.0, high=5.0).sum() == 4


def test_kl_cov_charges_the_tokens_of_highest_covariance(tokens):
    loss, terms = KLCov(share=0.2, weight=0.7), covariances(tokens)
    count = int(0.2 * len(terms))
    line = sorted(terms)[-count]
    expected = [
        math.exp(ratio) * advantage - 0.7 * math.copysign(term >= line, logp - old)
        for term, (ratio, advantage, logp, old) in zip(terms, each(tokens), strict=True)
    ]
    assert slopes(loss.surrogate(tokens), tokens)[tokens.mask_NT].tolist() == pytest.approx(expected)
    assert highest(covariance_terms(tokens.logp_NT, tokens.advantage_NT, tokens.mask_NT), count=count).sum() == count


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_sampler_weights_equal_the_definition(level, mode, tokens):
    found = sampler_weights(tokens.logp_NT, tokens.logp_old_NT, tokens.mask_NT, level=level, mode=mode, most=1.5)
    cut = set()
    for n in range(8):
        gaps = (tokens.logp_NT - tokens.logp_old_NT)[n][tokens.mask_NT[n]].tolist()
        for t, gap in enumerate(gaps):
            weight = math.exp(sum(gaps) if level == "sequence" else gap)
            cut.add(weight > 1.5)
            expected = min(weight, 1.5) if mode == "truncate" else weight * (weight <= 1.5)
            assert found[n, t].item() == pytest.approx(expected)
    assert cut == {True, False} and not found.requires_grad


def test_gaps_of_opposite_sign_do_not_cancel():
    mask = torch.tensor([[True, True, False]])
    found = sampler_gap(torch.tensor([[-1.0, -2.0, 0.0]]), torch.tensor([[-1.5, -1.75, 9.0]]), mask)
    assert found.tolist() == [pytest.approx([0.5, 0.25, 0.0])]


def test_the_mean_gradient_of_the_bonus_is_that_of_the_entropy():
    """Over all tokens by enumeration."""
    logits = numbers(6, seed=4).requires_grad_()
    logp = logits.log_softmax(-1)
    (found,) = torch.autograd.grad((logp.exp().detach() * entropy_bonus(logp)).sum(), logits)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(found, torch.autograd.grad(entropy, logits)[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CISPO(0.5), "at least 1"), (lambda: SAPO(0.0), "above 0"), (lambda: DivergenceMask(0.0), "above 0"),
        (lambda: DivergenceMask(kind="js"), "tv or kl"), (lambda: ClipCov(low=2.0, high=1.0), "low < high"),
        (lambda: KLCov(weight=0.0), "above 0"), (lambda: SamplerCorrection(most=0.5), "at least 1"),
        (lambda: SamplerCorrection(level="word"), "token or sequence"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_clipping_is_a_policy_loss_like_others():
    assert isinstance(Clip(), PolicyLoss) and issubclass(Clip, PolicyLoss)
