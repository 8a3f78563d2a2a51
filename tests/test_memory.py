"""How much fits the free memory of a device: slots of the sampler, tokens of a pass."""

from types import SimpleNamespace

import pytest
import torch

from lightning_modules.models import memory
from lightning_modules.models.language_model import build_language_model
from lightning_modules.models.memory import ON_A_CPU, learning_bytes, pass_tokens
from lightning_modules.rollout import room
from lightning_modules.rollout.room import slot_bytes, slots_that_fit
from lightning_modules.rollout.slots import SlotCache
from tests_support import TINY

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("half", [False, True])
def test_the_bytes_of_a_slot_are_those_that_the_cache_allocates(half):
    model, slots = build_language_model(TINY), 3
    heads, size = TINY["num_key_value_heads"], TINY["hidden_size"] // TINY["num_attention_heads"]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        cache = SlotCache(TINY["num_hidden_layers"], slots, 40, torch.device("cpu"), fixed=True)
        cache.rows = slots
        for layer in cache.layers:
            layer.insert(torch.arange(slots), torch.zeros(2, slots, heads, 5, size))
        assert slots * slot_bytes(model, 40) == sum(layer.storage.nbytes for layer in cache.layers)


def test_as_many_slots_as_half_of_the_free_memory_holds(monkeypatch):
    config = build_language_model(TINY).config
    model = SimpleNamespace(config=config, device=CUDA, dtype=torch.float32)
    each = slot_bytes(model, 100)
    monkeypatch.setattr(room, "free_bytes", lambda device: 20 * each + 1)
    assert slots_that_fit(model, 100, 1000) == 10
    assert slots_that_fit(model, 100, 7) == 7
    assert slots_that_fit(build_language_model(TINY), 100, 1000) == 1000  # on a CPU
    monkeypatch.setattr(room, "free_bytes", lambda device: each)
    with pytest.raises(ValueError, match=r"lower `sampling.max_new_tokens`"):
        slots_that_fit(model, 100, 1000)


def test_a_pass_gets_its_share_of_what_gradients_and_states_leave(monkeypatch):
    free, still, token = 10**10, 10**9, 70_000.0
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    monkeypatch.setattr(memory, "kept_bytes", lambda forward, device: token)
    found = pass_tokens(lambda tokens: None, CUDA, still)
    assert found == int(memory.SHARE * (free - still - memory.LOGITS_BYTES) / token)
    assert pass_tokens(lambda tokens: None, CUDA, 2 * free) == 1  # a row at a time
    assert pass_tokens(lambda tokens: None, torch.device("cpu"), still) == ON_A_CPU


def test_gradients_and_states_are_those_of_what_learns():
    model = build_language_model(TINY)
    model.lm_head.weight.requires_grad_(requires_grad=False)
    assert learning_bytes(model) == 12 * sum(p.numel() for p in model.model.layers.parameters()) + 12 * TINY["hidden_size"]
