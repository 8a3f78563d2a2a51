"""Sampling in CUDA graphs, which are simulated on a CPU (graph_tape.py): replays equal steps, also after an update."""

import pytest
import torch
from graph_tape import recorded_graphs

from lightning_modules.models.attending import attending
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, graphed_sharing
from lightning_modules.rollout.graphed import GraphedSampler, halved
from lightning_modules.rollout.graphed_sharing import GraphedSharing
from lightning_modules.rollout.native import Native
from lightning_modules.rollout.prefix_sharing import PrefixSampler
from lightning_modules.rollout.replica import JointLayer, Replica
from lightning_modules.rollout.sampling import Request, uniform_points
from lightning_modules.rollout.slots import IN_SLOTS
from tests_support import TINY

SETTINGS = [{}, {"temperature": 0.7, "top_p": 0.9, "top_k": 20}, {"temperature": 0.0}]
STEPS = {"every": 4, "stride": 16}
KINDS = {False: GraphedSampler, True: GraphedSharing}
PROMPTS = [[5], [6, 7], list(range(9, 40)), list(range(30, 60)), [11, 12, 13, 14, 15], list(range(50, 67))]


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_language_model(TINY | {"tie_word_embeddings": False}).eval()
    model.lm_head.weight.data *= 14
    for layer in model.model.layers:  # fresh ones are 0
        for name in ("q_proj", "k_proj", "v_proj"):
            torch.nn.init.normal_(getattr(layer.self_attn, name).bias, std=0.1)
    return model


def request_of(prompts, group=4, seed=0, stop=(3, 4), **settings):
    params = SamplingParams(**{"max_new_tokens": 24, "max_rows": 8, **settings})
    draws = torch.Generator().manual_seed(seed)
    points, n = uniform_points(len(prompts), group, params, draws), len(prompts) * group
    limits = torch.randint(1, params.max_new_tokens + 1, (n,), generator=draws)
    return Request(prompts, group, params, torch.tensor(stop), 1, points, limits)


def assert_same(done, expected):
    assert torch.equal(done.tokens_NT, expected.tokens_NT) and torch.equal(done.length_N, expected.length_N)
    assert torch.equal(done.logp_NT, expected.logp_NT)


def stepwise(model, request, dtype=None, kind=GraphedSampler):
    """Oracle: a copy of the model and slots of its own, and steps one by one."""
    replica = Replica(model, dtype).model
    with attending(replica, IN_SLOTS):
        return kind(replica, request, **STEPS).run()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("share", [False, True])
@torch.inference_mode()
def test_replayed_steps_equal_steps(monkeypatch, model, settings, half, share):
    request, kind = request_of(PROMPTS, **settings), KINDS[share]
    with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
        expected = stepwise(model, request, torch.bfloat16 if half else None, kind)
        with recorded_graphs(monkeypatch, kind) as tapes:
            engine = Native()
            assert_same(engine.in_graphs(model, request, share=share, **STEPS), expected)
    assert 2 <= len(tapes) <= len(engine.sampler.graphs)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("share", [False, True])
@torch.inference_mode()
def test_graphs_are_kept_and_take_new_weights_and_prompts(monkeypatch, model, half, share):
    """Oracle: everything anew for each rollout."""
    kind = KINDS[share]
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False),
        recorded_graphs(monkeypatch, kind) as tapes,
    ):
        engine = Native()
        first = engine.in_graphs(model, request_of(PROMPTS), share=share, **STEPS)
        kept, sampler, before = first.tokens_NT.clone(), engine.sampler, dict(engine.sampler.graphs)
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        for prompts, seed in ((PROMPTS[::-1], 1), (PROMPTS[1:4], 2)):
            again = request_of(prompts, seed=seed)
            done = engine.in_graphs(model, again, share=share, **STEPS)
            with monkeypatch.context() as patch:
                patch.setattr(kind, "advance", advance_by_steps)
                assert_same(done, stepwise(model, again, torch.bfloat16 if half else None, kind))
    assert engine.sampler is sampler and torch.equal(first.tokens_NT, kept)
    recorded = {shape: tape for shape, tape in before.items() if tape}
    assert recorded and all(sampler.graphs[shape] is tape for shape, tape in recorded.items())
    assert len(tapes) <= len(sampler.graphs)


def advance_by_steps(self):
    self.pool = None
    return ADVANCE(self)


ADVANCE = GraphedSampler.advance


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("group", "rows", "every"), [(1, 4, 1), (12, 8, 3), (12, 72, 16), (40, 64, 5)])
@torch.inference_mode()
def test_shared_prefixes_in_steps_without_waits_give_the_samples_of_the_steps_that_wait(model, settings, group, rows, every):
    """Groups larger than the slots, forks that must wait for one, shapes that grow and shrink. Oracle: prefix_sharing.py."""
    request = request_of(PROMPTS, group, max_rows=rows, **settings)
    with attending(model, IN_SLOTS):
        expected = PrefixSampler(model, request).run()
        done = GraphedSharing(model, request, every=every, stride=8).run()
    assert done.rows() == expected.rows()
    assert torch.allclose(done.logp_NT, expected.logp_NT, atol=1e-4)
    assert group == 1 or settings == {"temperature": 0.0} or len(set(map(tuple, done.rows()))) > 2 * len(PROMPTS)


@torch.inference_mode()
def test_a_prefix_that_samples_share_is_fed_once(model):
    """Greedy samples agree in everything: some slots for each prompt at first, then as many as prompts, to the next shape."""
    fed, request = [], request_of(PROMPTS[:3], 16, max_rows=48, temperature=0.0)
    with attending(model, IN_SLOTS):
        sampler = GraphedSharing(model, request, **STEPS)
        forward = model.register_forward_hook(lambda module, inputs, output: fed.append(len(output.logits)))
        sampler.run()
        forward.remove()
    assert fed.pop(0) == 3  # the prompts
    assert set(fed[:4]) == {24} and set(fed[4:]) <= {3, 6} and len(fed) <= 24 + 4


@torch.inference_mode()
def test_more_forks_than_a_step_may_copy_wait_for_their_turn(monkeypatch, model):
    """Every sample wants a slot of its own at the first token: one slot a step, and the same samples at the end."""
    request = request_of(PROMPTS[:2], 16, max_rows=32, temperature=5.0)
    monkeypatch.setattr(graphed_sharing, "FEWEST_FORKS", 1)
    with attending(model, IN_SLOTS):
        expected = PrefixSampler(model, request).run()
        steps, sampler = [], GraphedSharing(model, request, **STEPS)
        monkeypatch.setattr(sampler, "step", lambda step=sampler.step: (steps.append(sampler.rows), step()))
        assert sampler.run().rows() == expected.rows()
    distinct = len({row[0] for row in expected.rows() if len(row) > 1})
    assert distinct > 12 and sum(rows < 32 for rows in steps) > 8  # steps in which continuations waited


@torch.inference_mode()
def test_what_does_not_fit_the_slots_gets_new_ones(model):
    engine = Native()
    engine.in_graphs(model, request_of(PROMPTS), **STEPS)
    for other in (
        request_of([*PROMPTS, [8]]), request_of([list(range(9, 90))]), request_of(PROMPTS, temperature=0.5),
        request_of(PROMPTS, temperature=0.5, stop=(3, 5)),
    ):  # fmt: skip
        before = engine.sampler
        done = engine.in_graphs(model, other, **STEPS)
        assert engine.sampler is not before
        assert_same(done, stepwise(model, other))


@torch.inference_mode()
def test_what_is_released_is_made_anew(model):
    engine, request = Native(), request_of(PROMPTS[:2])
    engine.in_graphs(model, request, share=True, **STEPS)
    engine.release()
    assert engine.replica is engine.sampler is None
    assert_same(engine.in_graphs(model, request, **STEPS), stepwise(model, request))


@torch.inference_mode()
def test_a_model_that_moved_is_copied_anew(model):
    """`model.to(device)` gives parameters other addresses, and so would a change from training to evaluation other steps."""
    engine, request = Native(), request_of(PROMPTS[:2])
    engine.in_graphs(model, request, **STEPS)
    replica = engine.replica
    engine.in_graphs(model, request, **STEPS)
    assert engine.replica is replica
    model.model.norm.weight.data = model.model.norm.weight.data.clone()
    assert_same(engine.in_graphs(model, request, **STEPS), stepwise(model, request))
    assert engine.replica is not replica
    replica = engine.replica
    engine.in_graphs(model.train(), request, **STEPS)
    assert engine.replica is not replica and engine.replica.model.training


@pytest.mark.parametrize("half", [False, True])
def test_a_replica_computes_what_the_model_computes(model, half):
    model.register_forward_hook(lambda module, inputs, output: pytest.fail("a hook was called"))
    replica = Replica(model, torch.bfloat16 if half else None).model
    model._forward_hooks.clear()
    ids = torch.tensor([PROMPTS[3]])
    with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.no_grad():
        assert torch.equal(replica(input_ids=ids).logits, model(input_ids=ids).logits)
    assert not any(parameter.requires_grad for parameter in replica.parameters())
    assert replica.model.embed_tokens.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert sum(isinstance(module, JointLayer) for module in replica.modules()) == 2 * TINY["num_hidden_layers"]


def test_layers_that_are_given_another_input_compute_it_themselves(model):
    attention = Replica(model, None).model.model.layers[0].self_attn
    one, other = torch.randn(2, 3, TINY["hidden_size"])
    own = model.model.layers[0].self_attn
    attention.q_proj(one)
    for name in ("k_proj", "v_proj"):
        assert torch.allclose(getattr(attention, name)(other), getattr(own, name)(other), atol=1e-6)
        assert torch.allclose(getattr(attention, name)(one), getattr(own, name)(one), atol=1e-6)


@pytest.mark.parametrize(("rows", "used", "left"), [(12, 5, 6), (12, 12, 12), (12, 1, 1), (12, 0, 0), (7, 3, 3), (1, 0, 0)])
def test_slots_are_halved_while_the_rest_holds_all(rows, used, left):
    assert halved(rows, used) == left
