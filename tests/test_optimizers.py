"""Optimisers and schedules."""

import copy

import pytest
import torch
from torch import nn

from lightning_modules.optimizers import AdamW, Chained, Muon, number_by_model
from lightning_modules.optimizers.muon import BatchedMuon
from lightning_modules.schedules import WSD, Constant, Cosine


def models() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6))
    return model, copy.deepcopy(model)


def step(model: nn.Module, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    model(torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def apart(model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return [
        BatchedMuon(matrices, lr=0.02, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def test_chained_equals_its_parts_apart():
    one, other = models()
    chained, parts = Muon()(one), apart(other)
    for seed in range(3):
        step(one, [chained], seed)
        step(other, parts, seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_chained_resumes_exactly():
    one, other = models()
    first = Muon()(one)
    step(one, [first], 0)
    other.load_state_dict(one.state_dict())
    second = Muon()(other)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(one, [first], 1)
    step(other, [second], 1)
    assert isinstance(second, Chained)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("schedule", [Constant(), Cosine(warmup=0.1, floor=0.1), WSD()])
@pytest.mark.parametrize("steps", [1, 2, 100])
def test_schedules_stay_within_bounds(schedule, steps):
    factors = [schedule(step, steps) for step in range(steps + 1)]
    assert all(0 <= f <= 1 for f in factors)
    assert max(factors[:-1]) > 0


def test_wsd_decays_to_its_floor():
    schedule = WSD(warmup=0.1, decay=0.5, floor=0.1)
    assert schedule(20, 100) == 1.0
    assert schedule(100, 100) == pytest.approx(0.1)


@pytest.mark.parametrize("factory", [AdamW(lr=1e-2), Muon(lr=1e-2)])
def test_states_numbered_by_the_model_restore_the_same_optimiser(factory):
    """Numbers are those of `model.parameters()`, which is what sharded strategies expect."""
    one, other = models()
    first = factory(one)
    step(one, [first], 0)
    other.load_state_dict(one.state_dict())
    saved = number_by_model(copy.deepcopy(first.state_dict()), first, one)
    for number, parameter in enumerate(one.parameters()):
        held = next(v for v in saved["state"][number].values() if v.ndim)
        assert held.shape == parameter.shape
    second = factory(other)
    second.load_state_dict(saved)
    step(one, [first], 1)
    step(other, [second], 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_decay_is_on_matrices_only():
    """Oracle: with gradients of zero AdamW moves what decays, and only that."""
    model, _ = models()
    before = [p.clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    AdamW(lr=0.1, weight_decay=0.5)(model).step()
    for old, p in zip(before, model.parameters(), strict=True):
        assert torch.allclose(p, old * 0.95 if p.ndim == 2 else old)


def test_a_fused_update_is_the_plain_update():
    one, other = models()
    for model, fused in ((one, True), (other, False)):
        optimizer = AdamW(lr=1e-2, fused=fused)(model)
        for seed in range(3):
            step(model, [optimizer], seed)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_muon_alone_where_all_that_learns_is_a_matrix():
    layer = nn.Linear(4, 4, bias=False)
    optimizer = Muon()(layer)
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert len(optimizer.param_groups) == 1
    assert not torch.equal(layer.weight, before)
