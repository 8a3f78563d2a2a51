"""The sampling engine against teacher forcing and against transformers' generate."""

import pytest
import torch

from lightning_modules.rollout import SamplingParams, sample
from lightning_modules.rollout.engine import draw

STOP = [9, 3]


def run(model, prompts, group_size=3, generator=None, **params):
    return sample(
        model, prompts.prompt_ids, group_size, SamplingParams(**{"max_new_tokens": 24, **params}),
        stop_ids=STOP, pad_id=1, generator=generator or torch.Generator().manual_seed(0),
    )  # fmt: skip


@torch.no_grad()
def teacher_forced(model, prompt, completion, temperature=1.0):
    """One row, no cache, no padding: the definition."""
    logits = model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).squeeze(1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_teacher_forcing(tiny_model, prompts, temperature):
    tiny_model.lm_head.weight.data *= 8  # sharper: completions end at different lengths, so that rows are dropped
    done = run(tiny_model, prompts, temperature=temperature)
    rows = done.rows()
    assert len(rows) == 15
    for n, row in enumerate(rows):
        expected = teacher_forced(tiny_model, prompts.prompt_ids[n // 3], row, temperature)
        assert torch.allclose(done.logp_NT[n, : len(row)], expected, atol=1e-4)


def test_greedy_equals_generate(tiny_model, prompts):
    done = run(tiny_model, prompts, group_size=1, temperature=0.0).rows()
    for prompt, row in zip(prompts.prompt_ids, done, strict=True):
        ids = torch.tensor([prompt])
        output = tiny_model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=STOP, pad_token_id=1
        )
        assert output[0, len(prompt) :].tolist() == row


def test_a_completion_ends_at_its_first_stop_token(tiny_model, prompts):
    tiny_model.model.embed_tokens.weight.data[9] *= 10
    done = run(tiny_model, prompts, group_size=20)
    lengths = done.length_N.tolist()
    assert min(lengths) < max(lengths)
    for n, row in enumerate(done.rows()):
        assert not set(row[:-1]) & set(STOP)
        assert row[-1] in STOP or len(row) == 24
        assert (done.tokens_NT[n, len(row) :] == 1).all()
        assert (done.logp_NT[n, len(row) :] == 0).all()


def test_chunks_change_no_order(tiny_model, prompts):
    whole = run(tiny_model, prompts, group_size=2, temperature=0.0)
    parts = run(tiny_model, prompts, group_size=2, temperature=0.0, max_rows=4)
    assert whole.rows() == parts.rows()


def test_the_sampler_draws_by_probability():
    logits = torch.tensor([0.6, 0.3, 0.1, 0.0]).log().expand(20_000, 4)
    token_N, logp_N = draw(logits, 1.0, torch.Generator().manual_seed(0))
    shares = token_N.bincount(minlength=4) / len(token_N)
    assert torch.allclose(shares, torch.tensor([0.6, 0.3, 0.1, 0.0]), atol=0.015)
    assert torch.allclose(logp_N.exp(), torch.tensor([0.6, 0.3, 0.1, 0.0])[token_N])
