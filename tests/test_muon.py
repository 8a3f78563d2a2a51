"""Muon against an oracle in double precision; which parameters are Muon's, by what they are."""

import copy

import pytest
import torch
from torch import nn

from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import Muon
from lightning_modules.optimizers.muon import BatchedMuon, fast_dtype, orthogonalised
from tests_support import TINY

SHAPES = [(6, 6), (6, 6), (4, 9), (9, 4), (9, 4), (1, 5)]


def matrices(seed: int, dtype=torch.float32) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=random).to(dtype)) for shape in SHAPES]


def oracle(weights, gradients_of_steps, *, lr, momentum, decay):
    """Oracle: the recipe matrix by matrix in float64, from kellerjordan.github.io/posts/muon; returns the last weights."""
    weights = [w.detach().double() for w in weights]
    averages = [torch.zeros_like(w) for w in weights]
    for gradients in gradients_of_steps:
        for i, gradient in enumerate(g.double() for g in gradients):
            averages[i] = momentum * averages[i] + (1 - momentum) * gradient
            x = (1 - momentum) * gradient + momentum * averages[i]
            x = x / x.norm()
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            rows, columns = x.shape
            weights[i] = weights[i] * (1 - lr * decay) - lr * max(1, rows / columns) ** 0.5 * x
    return weights


def train(optimizer_type, parameters, gradients_of_steps, **settings):
    optimizer = optimizer_type(parameters, **settings)
    for gradients in gradients_of_steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return optimizer


def gradients(steps: int) -> list[list[torch.Tensor]]:
    return [[p.detach() for p in matrices(10 + step)] for step in range(steps)]


def test_updates_are_those_of_the_oracle():
    parameters, given = matrices(0), gradients(3)
    expected = oracle(parameters, given, lr=0.1, momentum=0.95, decay=0.2)
    train(BatchedMuon, parameters, given, lr=0.1, momentum=0.95, weight_decay=0.2)
    for found, right in zip(parameters, expected, strict=True):
        assert torch.allclose(found.double(), right, atol=1e-5)


def test_it_is_torchs_muon_up_to_that_ones_bfloat16():
    one, other, given = matrices(0), matrices(0), gradients(2)
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    mine, torchs = train(BatchedMuon, one, given, **settings), train(torch.optim.Muon, other, given, **settings)
    for found, right in zip(one, other, strict=True):
        assert torch.allclose(found, right, atol=2e-3)
    assert mine.state_dict()["param_groups"] == torchs.state_dict()["param_groups"]


def test_a_state_of_torchs_muon_is_gone_on_with():
    """Checkpoints of before hold that one's state."""
    one, given = matrices(0), gradients(2)
    torchs = train(torch.optim.Muon, one, given[:1], lr=0.02)
    other = [nn.Parameter(p.detach().clone()) for p in one]
    mine = BatchedMuon(other, lr=0.5)
    mine.load_state_dict(copy.deepcopy(torchs.state_dict()))
    for parameter, gradient in zip(other, given[1], strict=True):
        parameter.grad = gradient.clone()
    mine.step()
    for parameter, gradient in zip(one, given[1], strict=True):
        parameter.grad = gradient.clone()
    torchs.step()
    assert all(torch.allclose(a, b, atol=2e-3) for a, b in zip(one, other, strict=True))


def test_singular_values_come_near_1():
    given = torch.randn(3, 12, 7, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(given, (3.4445, -4.7750, 2.0315), 5))
    assert values.min() > 0.5 and values.max() < 1.3


def test_a_cpu_computes_in_float32():
    assert fast_dtype(torch.device("cpu")) == torch.float32


ARCHITECTURES = {
    "gpt2": {"model_type": "gpt2", "vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32},
    "opt": {"model_type": "opt", "vocab_size": 64, "hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32},
    "gpt_neox": {"model_type": "gpt_neox", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                 "num_attention_heads": 2, "max_position_embeddings": 32},
    "qwen2": TINY | {"tie_word_embeddings": False},
    "qwen2 tied": TINY,
}  # fmt: skip
TABLES = {
    "gpt2": {"transformer.wte.weight", "transformer.wpe.weight"},
    "opt": {"model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"},
    "gpt_neox": {"gpt_neox.embed_in.weight", "lm_head.weight"},
    "qwen2": {"model.embed_tokens.weight", "lm_head.weight"},
    "qwen2 tied": {"model.embed_tokens.weight"},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tables_of_tokens_and_positions_and_the_output_head_are_not_muons(name):
    model = build_language_model(ARCHITECTURES[name])
    muons = {id(p) for p in Muon()(model).parts[0].param_groups[0]["params"]}
    of_two = {key for key, p in model.named_parameters() if p.ndim == 2}
    assert {key for key, p in model.named_parameters() if p.ndim == 2 and id(p) not in muons} == TABLES[name]
    assert len(of_two) > len(TABLES[name])
