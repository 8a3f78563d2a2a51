"""Sampling that shares beginnings: the same distribution as drawing each sample alone, with fewer rows."""

from collections import Counter

import pytest
import torch

from lightning_modules.rollout import SamplingParams, sample_shared

STOP = [9, 3]


def run(model, prompt_ids, group_size=3, seed=0, **params):
    return sample_shared(
        model, prompt_ids, group_size, SamplingParams(**{"max_new_tokens": 24, **params}), stop_ids=STOP, pad_id=1,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


@torch.no_grad()
def teacher_forced(model, prompt, completion, temperature=1.0):
    """One row, no cache, no padding: the definition."""
    logits = model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).squeeze(1)


@pytest.fixture
def sharp_model(tiny_model):
    """Samples agree for a while and end at different lengths."""
    tiny_model.lm_head.weight.data *= 14
    return tiny_model


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_teacher_forcing(sharp_model, prompts, temperature):
    done = run(sharp_model, prompts.prompt_ids, group_size=6, temperature=temperature)
    rows = done.rows()
    assert len(rows) == 30
    assert len(set(map(tuple, rows))) > 5  # rows did split
    for n, row in enumerate(rows):
        expected = teacher_forced(sharp_model, prompts.prompt_ids[n // 6], row, temperature)
        assert torch.allclose(done.logp_NT[n, : len(row)], expected, atol=1e-4)


def test_greedy_equals_generate(tiny_model, prompts):
    done = run(tiny_model, prompts.prompt_ids, group_size=2, temperature=0.0).rows()
    for n, prompt in enumerate(prompts.prompt_ids):
        ids = torch.tensor([prompt])
        output = tiny_model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=STOP, pad_token_id=1
        )
        assert output[0, len(prompt) :].tolist() == done[2 * n] == done[2 * n + 1]


def test_completions_come_with_the_probabilities_of_the_model(sharp_model, prompts):
    """Oracle: p(a, b) = p(a) p(b | a) by teacher forcing, for the commonest pairs of 20,000 samples."""
    prompt, count = prompts.prompt_ids[0], 20_000
    done = run(sharp_model, [prompt], group_size=count, max_new_tokens=2, max_rows=count)
    pairs = Counter(map(tuple, done.rows()))
    assert len(pairs) > 20
    for pair, times in pairs.most_common(8):
        expected = teacher_forced(sharp_model, prompt, list(pair)).sum().exp().item()
        assert times / count == pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5)


def test_samples_of_a_prompt_are_independent(sharp_model, prompts):
    """Oracle: two independent draws agree in their first token with probability sum p^2."""
    prompt = prompts.prompt_ids[1]
    with torch.no_grad():
        p = sharp_model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    expected, groups = p.square().sum().item(), 4000
    done = run(sharp_model, [prompt] * groups, group_size=2, max_new_tokens=1, max_rows=2 * groups)
    first, second = done.tokens_NT[:, 0].view(groups, 2).T
    agree = (first == second).float().mean().item()
    assert agree == pytest.approx(expected, abs=4 * (expected * (1 - expected) / groups) ** 0.5)


def test_a_completion_ends_at_its_first_stop_token(tiny_model, prompts):
    tiny_model.model.embed_tokens.weight.data[9] *= 10
    done = run(tiny_model, prompts.prompt_ids, group_size=20)
    lengths = done.length_N.tolist()
    assert min(lengths) < max(lengths)
    for n, row in enumerate(done.rows()):
        assert not set(row[:-1]) & set(STOP)
        assert row[-1] in STOP or len(row) == 24
        assert (done.tokens_NT[n, len(row) :] == 1).all()
        assert (done.logp_NT[n, len(row) :] == 0).all()


def test_chunks_change_no_order(tiny_model, prompts):
    whole = run(tiny_model, prompts.prompt_ids, group_size=2, temperature=0.0)
    parts = run(tiny_model, prompts.prompt_ids, group_size=2, temperature=0.0, max_rows=4)
    assert whole.rows() == parts.rows()


def test_common_beginnings_are_computed_once(sharp_model, prompts):
    rows = []
    sharp_model.register_forward_hook(lambda module, inputs, output: rows.append(len(output.logits)))
    done = run(sharp_model, prompts.prompt_ids[:1], group_size=16)
    beginnings = {tuple(row[:t]) for row in done.rows() for t in range(len(row))}
    assert sum(rows) == len(beginnings) < int(done.length_N.sum())
