"""Each prompt once through the model: the numbers and gradients of going row by row."""

import pytest
import torch

from lightning_modules.models.group_forward import Groups, group_counts, grouped_logp

LENGTHS = [(7, 3), (7, 9), (4, 1), (7, 5), (4, 12), (1, 2), (4, 1)]  # of prompt and completion; the prompts of a length are equal


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(0)
    prompts = {length: torch.randint(10, 500, (length,), generator=draw) for length, _ in LENGTHS}
    tokens = torch.full((len(LENGTHS), 18), 1)
    mask = torch.zeros(len(LENGTHS), 17, dtype=torch.bool)
    for n, (prompt, own) in enumerate(LENGTHS):
        tokens[n, :prompt] = prompts[prompt]
        tokens[n, prompt : prompt + own] = torch.randint(10, 500, (own,), generator=draw)
        mask[n, prompt - 1 : prompt + own - 1] = True
    return tokens, mask


def row_by_row(model, tokens, mask, temperature):
    """Oracle: each row by itself, without padding."""
    logp = torch.zeros(mask.shape)
    for n, (prompt, own) in enumerate(LENGTHS):
        ids = tokens[n : n + 1, : prompt + own]
        found = (model(input_ids=ids[:, :-1], use_cache=False).logits[0] / temperature).log_softmax(-1)
        logp[n, mask[n]] = found.gather(1, ids[0, 1:, None]).squeeze(1)[prompt - 1 :]
    return logp


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_numbers_and_gradients_equal_those_of_row_by_row(tiny_model, rows, temperature):
    weight = torch.randn(rows[1].shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for logp in (grouped_logp(tiny_model, *rows, temperature=temperature), row_by_row(tiny_model, *rows, temperature)):
        tiny_model.zero_grad()
        (logp * weight).sum().backward()
        gradients.append((logp.detach(), [p.grad.clone() for p in tiny_model.parameters()]))
    (logp, ours), (expected, theirs) = gradients
    assert torch.allclose(logp, expected, atol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_a_prompt_passes_once_and_padding_never(rows):
    tokens, attended = group_counts(*rows)
    assert tokens == len(Groups.of(*rows).tokens_F) == (7 + 4 + 1) + sum(own - 1 for _, own in LENGTHS)
    of_prompts = sum(sum(range(1, prompt + 1)) for prompt in (7, 4, 1))
    assert attended == of_prompts + sum(sum(range(prompt + 1, prompt + own)) for prompt, own in LENGTHS)


def test_the_model_attends_as_before_afterwards(tiny_model, rows):
    before = tiny_model.config._attn_implementation
    grouped_logp(tiny_model, *rows)
    assert tiny_model.config._attn_implementation == before


def test_computing_twice_gives_the_same_bits(tiny_model, rows):
    with torch.no_grad():
        first = grouped_logp(tiny_model, *rows)
    assert torch.equal(first, grouped_logp(tiny_model, *rows).detach())
