"""FLOPs from a config. Oracle: torch counts the operations of a real forward and backward pass."""

import pytest
import torch
from architectures import ARCHITECTURES
from torch.utils.flop_counter import FlopCounterMode

from lightning_modules.models.compute import countable
from lightning_modules.models.flops import forward_flops, matmul_parameters, training_flops
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

LENGTH = 24
KNOWN = {"llama", "qwen3", "gemma", "phi3 with a window"}  # in the last, matrices lie side by side in one


def counted(change, *, backward):
    """FLOPs that torch sees, without the rotation angles; eager attention looks at the whole row, masked or not."""
    torch.manual_seed(0)
    model = build_language_model(TINY | change)
    model.set_attn_implementation("eager")
    tokens = torch.randint(10, 500, (2, LENGTH))
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=tokens, use_cache=False).logits.square().sum()
        if backward:
            loss.backward()
    angles = sum(sum(ops.values()) for name, ops in counter.get_flop_counts().items() if name.endswith("rotary_emb"))
    return model.config, counter.get_total_flops() - angles


@pytest.mark.parametrize("change", [{}, {"model_type": "qwen3", "head_dim": 16}, {"tie_word_embeddings": False}])
def test_forward_flops_are_those_torch_counts(change):
    config, flops = counted(change, backward=False)
    assert forward_flops(config, tokens=2 * LENGTH, context=LENGTH) == flops


def test_training_flops_are_those_torch_counts():
    config, flops = counted({}, backward=True)
    assert training_flops(config, tokens=2 * LENGTH, context=LENGTH) == flops


def test_matmul_parameters_are_the_matrices_of_the_model():
    model = build_language_model(TINY)
    assert matmul_parameters(model.config) == sum(p.numel() for p in model.parameters() if p.ndim == 2)


@pytest.mark.parametrize(
    "kind", sorted(KNOWN | {"phi", "nemotron", "starcoder2 with a window", "mixtral with a window", "gpt2", "deepseek_v3"})
)
def test_flops_are_known_only_where_the_formula_holds(kind):
    """Oracle: two for each weight of the matrices and each token that passes them, as torch counts."""
    model = build_language_model(ARCHITECTURES[kind])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False)
    products = sum(count for op, count in counter.get_flop_counts()["Global"].items() if "mm" in str(op) or "bmm" in str(op))
    if countable(model.config):
        assert 2 * matmul_parameters(model.config) == pytest.approx(products, rel=0.05)
    assert countable(model.config) == (kind in KNOWN)
