"""Losses and rows of rollouts against numbers worked out token by token."""

import math
from statistics import fmean

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from policy_runs import LONGEST, Watch, build, fit
from test_pretrain import MIXTURE, oracle, trainer

from datamodules import PretrainDataModule
from datamodules.rows.documents import PackedBatch
from lightning_modules import DrGRPOModule, GRPOModule, GSPOModule, PPOModule, PretrainModule, RLOOModule
from lightning_modules.models.language_model import load_language_model
from lightning_modules.policy.experience import Group, to_experience
from lightning_modules.policy.ppo import ValueLearning
from lightning_modules.policy.trust_region import Clip, KLPenalty
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, TINY

LOW, HIGH, BETA, WEIGHT, BOUND, VALUE, TEMPERATURE, PARTS, ROWS = 0.1, 0.4, 0.3, 0.7, 0.2, 0.3, 0.7, 3, 16


class Arbitrary(Watch):
    """Put arbitrary numbers where a rollout has its own, so that every part of a loss shows; a critic says VALUE everywhere."""

    def on_train_start(self, trainer, pl_module):
        if isinstance(pl_module, PPOModule):
            torch.nn.init.constant_(pl_module.critic.head.bias, VALUE)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        draw = torch.Generator().manual_seed(batch_idx)
        old, ref, advantage, value, target = torch.randn(5, *batch.mask_NT.shape, generator=draw)
        batch.logp_old_NT, batch.logp_ref_NT = batch.logp_old_NT + 0.4 * old, batch.logp_ref_NT + 0.4 * ref
        batch.advantage_NT, batch.value_NT, batch.return_NT = advantage, VALUE + 0.4 * value, target
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)


def losses_of_row(batch, n, model, *, of_sequence):
    """Of each sampled token of a row the loss of the policy and that of the critic; `beta` has been lowered once, by a fifth."""
    places = batch.mask_NT[n].nonzero().flatten().tolist()
    logits = model(batch.tokens_NT[n : n + 1]).logits[0] / TEMPERATURE
    logps = [logits[t].log_softmax(-1)[batch.tokens_NT[n, t + 1]].item() for t in places]
    mean_log_ratio = fmean(logp - batch.logp_old_NT[n, t].item() for logp, t in zip(logps, places, strict=True))
    policy, critic = [], []
    for logp, t in zip(logps, places, strict=True):
        columns = (batch.logp_old_NT, batch.logp_ref_NT, batch.advantage_NT, batch.value_NT, batch.return_NT)
        old, ref, advantage, value, target = (column[n, t].item() for column in columns)
        ratio = math.exp(mean_log_ratio if of_sequence else logp - old)
        gain = min(ratio * advantage, min(max(ratio, 1 - LOW), 1 + HIGH) * advantage)
        policy.append(-gain + 0.8 * BETA * (math.exp(ref - logp) - 1 - (ref - logp)))
        near = value + min(max(VALUE - value, -BOUND), BOUND)
        critic.append(max((VALUE - target) ** 2, (near - target) ** 2) / 2)
    return policy, critic


def expected_loss(module_type, rows, tokens):
    """Of one minibatch; divisors are those of all of them over their number."""
    sums = [(sum(policy), sum(critic), len(policy)) for policy, critic in rows]
    if module_type is GSPOModule:
        return sum(policy / length for policy, _, length in sums) / (ROWS / PARTS)
    lengths = {DrGRPOModule: LONGEST * ROWS, RLOOModule: ROWS}
    weight = WEIGHT if module_type is PPOModule else 0
    return sum(policy + weight * critic for policy, critic, _ in sums) / (lengths.get(module_type, tokens) / PARTS)


@pytest.mark.parametrize("module_type", [GRPOModule, DrGRPOModule, GSPOModule, RLOOModule, PPOModule])
def test_the_loss_of_each_minibatch_equals_its_definition(module_type, start, tmp_path):
    values = {"values": ValueLearning(clip=BOUND, weight=WEIGHT)} if module_type is PPOModule else {}
    kl, clip, watch = KLPenalty(target=1.0, gain=1.0), Clip(LOW, HIGH), Arbitrary()
    module = build(start, module_type, lr=0.0, beta=BETA, kl=kl, minibatches=PARTS, clip=clip, **values)
    module.sampling = SamplingParams(max_new_tokens=LONGEST, temperature=TEMPERATURE)
    fit(module, tmp_path, max_steps=PARTS, callbacks=[watch])
    model, of_sequence = load_language_model(start).eval(), module_type is GSPOModule
    with torch.no_grad():
        parts = [
            [losses_of_row(batch, n, model, of_sequence=of_sequence) for n in range(len(batch.mask_NT))]
            for batch in watch.batches
        ]
    counts = [sum(len(policy) for policy, _ in rows) for rows in parts]
    assert len(set(counts)) > 1 and len({len(rows) for rows in parts}) > 1
    expected = [expected_loss(module_type, rows, sum(counts)) for rows in parts]
    assert watch.column("train/loss") == pytest.approx(expected, abs=1e-4)


def test_the_weight_of_the_penalty_follows_the_divergence_per_token_of_each_rollout(start, tmp_path):
    watch, target = Watch(), 0.01
    module = build(start, lr=0.2, beta=BETA, kl=KLPenalty(target=target, gain=1.0), minibatches=2)
    fit(module, tmp_path, max_steps=8, callbacks=[watch])
    weight, factors = BETA, []
    for first in range(0, 8, 2):
        rollout = watch.batches[first : first + 2]
        gaps = torch.cat([(b.logp_ref_NT - b.logp_old_NT)[b.mask_NT] for b in rollout]).tolist()
        factors.append(1 + min(max(fmean(math.exp(gap) - 1 - gap for gap in gaps) / target - 1, -0.2), 0.2))
        weight *= factors[-1]
        assert watch.column("train/kl_weight")[first] == pytest.approx(weight, rel=1e-4)
    assert any(0.81 < factor < 1.19 for factor in factors), factors


def test_the_gradient_of_the_penalty_is_the_one_asked_for():
    """Oracle: d/dlogp of k3 is 1 - ref / pi, that of k2 log(pi / ref)."""
    logp, ref = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True), torch.tensor([-2.0, -1.0, -0.6])
    for exact, expected in ((False, 1 - (ref - logp).exp()), (True, logp - ref)):
        terms = KLPenalty("k3", exact_gradient=exact).terms(logp, ref)
        assert torch.allclose(terms, (ref - logp).exp() - 1 - (ref - logp))
        assert torch.allclose(torch.autograd.grad(terms.sum(), logp)[0], expected)


def test_the_validation_loss_is_the_mean_over_all_labels(tmp_path):
    batches = []

    class Keep(Callback):
        def on_validation_batch_start(self, trainer, pl_module, batch, *args):
            if type(batch) is PackedBatch:
                batches.append(batch)

    module = PretrainModule(TINY)
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2, loss_on="solution")
    (logged,) = trainer(tmp_path, limit_val_batches=4, callbacks=[Keep()]).validate(module, data, verbose=False)
    sums = [oracle(module.language_model, batch) for batch in batches]
    assert len({count for *_, count in sums}) > 1
    assert logged["val/loss"] == pytest.approx(sum(nll.item() for nll, *_ in sums) / sum(n for *_, n in sums), rel=1e-5)


def test_rows_of_a_rollout_are_those_written_by_hand():
    def group(prompt, completions, rewards, credit):
        parts = [{"r": reward} for reward in rewards]
        return Group(None, prompt, completions, [torch.full((len(row),), -0.5) for row in completions], [], [], parts, credit)

    rows = to_experience(
        [
            group([5, 6, 7], [[8, 9], [10]], [1.0, 2.0], [[(0, 0.5), (1, 0.25)], [(0, -1.0)]]),
            group([5], [[6, 7, 8], [9]], [3.0, 4.0], [[(1, 0.125)], []]),
        ],
        0,
    )
    assert rows.tokens_NT.tolist() == [[5, 6, 7, 8, 9], [5, 6, 7, 10, 0], [5, 6, 7, 8, 0], [5, 9, 0, 0, 0]]
    assert rows.mask_NT.int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
    assert rows.reward_NT.tolist() == [[0, 0, 0, 1], [0, 0, 2, 0], [0, 0, 3, 0], [4, 0, 0, 0]]
    assert rows.credit_NT.tolist() == [[0, 0, 0.5, 0.25], [0, 0, -1, 0], [0, 0.125, 0, 0], [0, 0, 0, 0]]
    assert rows.ends_NT.int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert rows.rewards_BG.tolist() == [[1, 2], [3, 4]]
    assert torch.equal(rows.logp_NT, -0.5 * rows.mask_NT)
    assert (rows.ended_BG.all(), rows.lengths_BG.tolist(), rows.weight_N.tolist()) == (True, [[2, 1], [3, 1]], [1.0] * 4)
