"""A minibatch in several passes, padded or side by side, with logits part by part: the results and gradients of one pass."""

import os
from functools import partial

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from policy_runs import Watch, all_weights, build, fit
from processes import run

from datamodules.rows.documents import IGNORE
from lightning_modules import DrGRPOModule, GRPOModule, GSPOModule, PPOModule
from lightning_modules.models import attention, label_scores
from lightning_modules.models.attention import BACKENDS
from lightning_modules.models.critic import SeparateCritic, SharedCritic
from lightning_modules.models.label_scores import Head, head_fault, scored
from lightning_modules.models.language_model import build_language_model
from lightning_modules.models.passes import Rows, in_passes, levelled, plan
from lightning_modules.models.row_layouts import Padded, SideBySide
from tests_support import TINY, by_document

ALGORITHMS = {
    "grpo": (GRPOModule, {"beta": 0.2}), "gspo": (GSPOModule, {"beta": 0.2}), "dr_grpo": (DrGRPOModule, {}),
    "shared critic": (PPOModule, {"critic": SharedCritic}), "critic": (PPOModule, {"critic": SeparateCritic, "beta": 0.2}),
}  # fmt: skip


def trained(start, folder, name, **settings):
    """What was logged with three updates, the weights after them, and the module."""
    kind, more = ALGORITHMS[name]
    more = more | ({"critic": more["critic"]()} if "critic" in more else {})
    watch, trainer = Watch(), {key: settings.pop(key) for key in ("strategy", "devices") if key in settings}
    module = build(start, kind, minibatches=2, epochs=2, tokens_per_pass=settings.pop("tokens", None), **more, **settings)
    collect, module.seen = module.collect, []

    def remember(*prompts):
        module.seen += (found := collect(*prompts))
        return found

    module.collect = remember
    torch.manual_seed(0)
    fit(module, folder, callbacks=[] if trainer else [watch], **trainer)
    return watch, all_weights(module), module


@pytest.mark.parametrize(
    "name", [n if n in ("grpo", "shared critic") else pytest.param(n, marks=pytest.mark.long) for n in ALGORITHMS]
)
@pytest.mark.parametrize("tokens", [150, pytest.param(1, marks=pytest.mark.long)])
def test_updates_are_those_of_one_pass(start, tmp_path, name, tokens):
    (one, whole, _), (several, parts, module) = (trained(start, tmp_path, name, tokens=t) for t in (None, tokens))
    rows = one.batches[0].lengths
    passes = module.passes(rows)
    assert sorted(n for chosen in passes for n in chosen) == list(range(len(rows)))
    assert len(passes) == len(rows) if tokens == 1 else 1 < len(passes) < len(rows)
    moved = (whole - trained(start, tmp_path, name, lr=0.0)[1]).abs().max()
    assert moved > 1e-3
    assert torch.allclose(whole, parts, rtol=0, atol=2e-4 * moved)
    for a, b in zip(one.logs, several.logs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    assert several.logs[0]["train/ratio"] == 1.0


@pytest.mark.long
@pytest.mark.parametrize("name", ["grpo", "critic"])
def test_passes_go_with_recomputed_activations(start, tmp_path, name):
    (_, whole, _), (_, parts, _) = (
        trained(start, tmp_path, name, tokens=tokens, gradient_checkpointing=recomputed)
        for tokens, recomputed in ((None, False), (150, True))
    )
    moved = (whole - trained(start, tmp_path, name, lr=0.0)[1]).abs().max()
    assert torch.allclose(whole, parts, rtol=0, atol=2e-4 * moved)


def _distributed(start, folder, strategy):
    """One pass, and then passes: of the second process there would be fewer, but with sharded weights it keeps step."""
    ends, rank = [], int(os.environ["LOCAL_RANK"])
    for tokens in (None, 150 + 150 * rank):
        made = {"ddp": DDPStrategy, "sharded": partial(ModelParallelStrategy, 2, 1)}[strategy]()
        _, found, module = trained(start, folder, "critic", tokens=tokens, strategy=made, devices=2)
        ends.append(found)
    own = [len(plan(batch.lengths, module.tokens_per_pass, by_length=True)) for batch in module.seen]
    torch.save((ends, own), folder / f"rank{rank}.pt")


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["sharded", "ddp"])
def test_two_processes_in_passes_take_the_steps_of_one_pass(start, tmp_path, strategy):
    assert run(_distributed, start, tmp_path, strategy, world=2) == [0, 0]
    (ends, own), (others, others_own) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert torch.allclose(*ends, rtol=0, atol=1e-5)
    assert not torch.equal(*ends)  # sums in another order
    assert torch.equal(ends[1], others[1])
    assert min(own) > max(others_own) > 1


@pytest.mark.parametrize("by_length", [True, False])
def test_passes_hold_every_row_once_and_no_more_tokens_than_allowed(by_length):
    draw = torch.Generator().manual_seed(0)
    for most in (1, 50, 200, 10_000):
        ends = torch.randint(2, 90, (40,), generator=draw).tolist()
        passes = plan([(1, end) for end in ends], most, by_length=by_length)
        assert sorted(n for chosen in passes for n in chosen) == list(range(40))
        for chosen in passes:
            assert len(chosen) == 1 or len(chosen) * max(ends[n] - 1 for n in chosen) <= most
        for count in (1, 3, len(passes) + 5, 60):
            more = levelled(passes, count)
            assert len(more) == max(count, len(passes))
            assert {n for chosen in more for n in chosen} == set(range(40))
            assert all(more)


def test_a_row_computed_again_to_keep_step_changes_nothing():
    rows = Rows(torch.arange(30).view(3, 10), torch.ones(3, 9, dtype=torch.bool), [(1, 10), (1, 4), (1, 7)])
    weight = torch.ones((), requires_grad=True)

    def double(part):
        return (part.tokens_NT[:, :-1] * part.mask_NT * weight,)

    (found,) = in_passes(double, rows, levelled([[0, 1, 2]], 5))
    expected = rows.tokens_NT[:, :-1].clone()
    expected[1, 3:], expected[2, 6:] = found[1, 3:].long(), found[2, 6:].long()  # behind the ends: anything
    assert torch.equal(found, expected.float())
    found[:, :3].sum().backward()
    assert weight.grad == rows.tokens_NT[:, :3].sum()


@pytest.mark.parametrize("name", ["sdpa", "mask", "varlen"])
def test_rows_side_by_side_have_the_outputs_of_rows_one_below_the_other(name, monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_document, raising=False)
    torch.manual_seed(0)
    model, tokens = build_language_model(TINY), torch.randint(10, 500, (4, 20))
    lengths = [(3, 20), (5, 6), (1, 2), (7, 15)]
    mask = torch.stack([(torch.arange(19) >= a - 1) & (torch.arange(19) < b - 1) for a, b in lengths])
    rows = Rows(tokens, mask, lengths)
    assert Rows.of(tokens, mask).lengths == lengths
    padded, beside = Padded(rows), SideBySide(rows, BACKENDS[name]())
    assert (padded.label_P != IGNORE).sum() == len(beside.label_P) == mask.sum()
    found = [scored(model, lambda layout=x: layout.outputs(model)[0], x.label_P)[0] for x in (padded, beside)]
    assert torch.allclose(padded.spread(found[0]), beside.spread(found[1]), atol=1e-5)
    states = [x.spread(x.states(model.base_model).sum(-1))[mask] for x in (padded, beside)]
    assert torch.allclose(*states, atol=1e-4)
    both = [x.spread(x.outputs(model, states=True)[1].sum(-1))[mask] for x in (padded, beside)]
    assert torch.allclose(states[0], both[0], atol=1e-4)
    assert torch.allclose(*both, atol=1e-4)


def test_a_gpu_run_side_by_side_takes_the_updates_of_padded_rows(start, tmp_path, monkeypatch):
    """With the backend that a GPU would have; on a CPU rows of a group share their prompt instead."""
    _, padded, _ = trained(start, tmp_path, "critic", tokens=150)
    monkeypatch.setattr("lightning_modules.policy.policy_module.backend_of_edges", lambda *_, **__: BACKENDS["sdpa"]())
    _, beside, module = trained(start, tmp_path, "critic", tokens=150)
    assert isinstance(module.layout(Rows(torch.ones(1, 4).long(), torch.ones(1, 3).bool(), [(1, 4)])), SideBySide)
    assert torch.allclose(padded, beside, atol=1e-5)


@pytest.mark.parametrize("at_once", [576 * 7, 576 * 1000])
@pytest.mark.parametrize("half", [False, True])
def test_scores_part_by_part_are_those_of_whole_logits(monkeypatch, at_once, half):
    """Oracle: log_softmax of all logits, and its gradients by autograd."""
    torch.manual_seed(0)
    layer, states = torch.nn.Linear(32, 576), torch.randn(50, 32, requires_grad=True)
    label, weights = torch.randint(0, 576, (50,)), torch.randn(2, 50)
    label[[3, 49]] = IGNORE
    found = []
    for part in (True, False):
        monkeypatch.setattr(label_scores, "LOGITS_AT_ONCE", at_once)
        layer.zero_grad()
        states.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            if part:
                logp, mass = label_scores.label_scores(states, label, Head(layer.weight, layer.bias), temperature=0.7)
            else:
                logits = layer(states).float() / 0.7
                logp = logits.log_softmax(-1).gather(1, label.clamp(min=0)[:, None]).squeeze(1).where(label != IGNORE, 0.0)
                mass = logits.exp().sum(-1).log()
        (weights[0] * logp + weights[1] * mass).sum().backward()
        found.append([logp, mass, states.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=0.2 if half else 1e-4, rtol=0.02 if half else 1e-5)
    assert torch.equal(found[0][0] == 0, label == IGNORE)


def test_a_model_that_changes_its_logits_keeps_them_whole():
    assert head_fault(build_language_model(TINY)) is None
    capped = {"model_type": "gemma2", **{k: v for k, v in TINY.items() if k != "model_type"}, "head_dim": 8}
    assert head_fault(build_language_model(capped | {"final_logit_softcapping": 0.1})) is not None


@pytest.mark.parametrize("name", ["grpo", pytest.param("shared critic", marks=pytest.mark.long)])
def test_updates_with_logits_part_by_part_are_those_with_whole_logits(start, tmp_path, name, monkeypatch):
    monkeypatch.setattr("lightning_modules.policy.policy_module.groupable", lambda *_: False)
    _, whole, _ = trained(start, tmp_path, name)
    monkeypatch.setattr(label_scores, "LOGITS_AT_ONCE", 600 * 5)
    _, parts, _ = trained(start, tmp_path, name)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert not torch.equal(whole, parts)


def test_backends_of_edges_need_a_gpu():
    assert attention.backend_of_edges(build_language_model(TINY), torch.device("cpu"), half=False) is None
