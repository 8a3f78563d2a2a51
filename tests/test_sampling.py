"""How a token is drawn, and what cannot be sampled."""

import pytest
import torch

from lightning_modules.rollout import SamplingParams, sample
from lightning_modules.rollout.sampling import draw


@pytest.mark.parametrize(
    ("prompt_ids", "settings", "message"),
    [
        ([], {}, "at least one prompt"),
        ([[5], []], {}, "a token in each"),
        ([[5]], {"limits": [3, 9]}, "limits must be in 1..max_new_tokens = 8"),
        ([[5]], {"limits": [0, 2]}, "limits must be"),
        ([[5]], {"limits": [2]}, "one limit for each completion"),
        ([[5], [6]], {"generator": [torch.Generator()]}, "one generator for each prompt"),
    ],
)
def test_what_cannot_be_sampled_is_refused(tiny_model, prompt_ids, settings, message):
    with pytest.raises(ValueError, match=message):
        sample(tiny_model, prompt_ids, 2, SamplingParams(max_new_tokens=8), stop_ids=[], pad_id=1, **settings)


@pytest.mark.parametrize("settings", [{"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"max_rows": 0}, {"temperature": -1.0},
                                      {"max_new_tokens": 0}, {"engine": "fast"}])  # fmt: skip
def test_parameters_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SamplingParams(**settings)


PROBABILITIES = torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2])


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({}, [0.1, 0.4, 0.0, 0.3, 0.2]), ({"top_k": 2}, [0, 0.4, 0, 0.3, 0]), ({"top_p": 0.65}, [0, 0.4, 0, 0.3, 0]),
     ({"top_p": 0.75}, [0, 0.4, 0, 0.3, 0.2]), ({"top_p": 0.1}, [0, 0.4, 0, 0, 0]),
     ({"top_k": 3, "top_p": 0.5}, [0, 0.4, 0, 0.3, 0]), ({"top_k": 9}, [0.1, 0.4, 0.0, 0.3, 0.2])],
)  # fmt: skip
def test_the_sampler_draws_by_probability_from_the_tokens_that_are_kept(settings, kept):
    point_RK = torch.rand(2, 20_000, generator=torch.Generator().manual_seed(0))
    token_RK, logp_RK = draw(PROBABILITIES.log().expand(2, 5), point_RK, SamplingParams(**settings))
    expected = torch.tensor(kept) / sum(kept)
    for token_K in token_RK:
        assert torch.allclose(token_K.bincount(minlength=5) / len(token_K), expected, atol=0.015)
    assert torch.allclose(logp_RK.exp(), PROBABILITIES[token_RK])


def test_the_sampler_never_draws_what_has_no_probability():
    """Points at the very ends, and steps of the CDF that rounding swallows."""
    logits = torch.full((1, 1000), -1e4)
    logits[0, [3, 500]] = torch.tensor([0.0, -30.0])
    point = torch.tensor([[0.0, 0.5, 1 - 2**-24]])
    token, logp = draw(logits, point, SamplingParams())
    assert set(token[0].tolist()) <= {3, 500}
    assert logp.isfinite().all()
