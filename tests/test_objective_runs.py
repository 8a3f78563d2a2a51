"""Parts of a policy in runs of a second: surrogates, weights, truncation, sampler, diversity, teachers, rewards that fail."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from policy_runs import LONGEST, LengthReward, Stopping, Watch, fit, forced_logp, module, start_weights, weights

from lightning_modules import (
    BestOfKModule,
    DrGRPOModule,
    GRPOModule,
    GSPOModule,
    MaxRLModule,
    PKPOModule,
    PPOModule,
    RLOOModule,
)
from lightning_modules.formulas import best_of_k_advantages
from lightning_modules.models.flops import forward_flops
from lightning_modules.models.language_model import build_language_model, load_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import UpdateSettings
from lightning_modules.policy.sample_weights import SampleWeights, SolveRateWeights
from lightning_modules.policy.sampler_correction import SamplerCorrection
from lightning_modules.policy.surrogate import CISPO, SAPO, ClipCov, DivergenceMask, KLCov, PolicyLoss
from lightning_modules.policy.trust_region import Clip, KLPenalty
from lightning_modules.rewards import NodeCredit, OverlongPenalty, Reward, RewardError, WeightedSum
from lightning_modules.rollout import SamplingParams
from lightning_modules.schedules import Ramp
from tests_support import TINY

LOSSES = [Clip(), CISPO(), SAPO(), DivergenceMask(), KLCov()]


def test_the_first_update_is_the_same_under_every_surrogate(start, tmp_path):
    ends = []
    for loss in LOSSES:
        policy = module(start, policy_loss=loss)
        fit(policy, tmp_path, max_steps=1)
        ends.append(weights(policy) - start_weights(start))
    assert ends[0].abs().max() > 1e-3
    for end in ends[1:]:
        assert torch.allclose(end, ends[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", [*LOSSES[1:], ClipCov(share=0.1, low=-9.0, high=9.0)])
def test_later_updates_are_its_own(loss, start, tmp_path):
    policies = [module(start, policy_loss=each, update=UpdateSettings(epochs=3), lr=1.0) for each in (None, loss)]
    for policy in policies:
        torch.manual_seed(0)
        fit(policy, tmp_path)
    assert not torch.allclose(weights(policies[0]), weights(policies[1]), rtol=0, atol=1e-6)
    assert weights(policies[1]).isfinite().all()


def test_a_surrogate_of_ones_own_drives_grpo_and_ppo(start, tmp_path):
    class Vanilla(PolicyLoss):
        def surrogate(self, tokens):
            return tokens.logp_NT * tokens.advantage_NT

        def held_back(self, tokens):
            return tokens.mask_NT

    for kind in (GRPOModule, PPOModule):
        watch = Watch()
        policy = module(start, kind, policy_loss=Vanilla())
        fit(policy, tmp_path, max_steps=1, callbacks=[watch])
        assert watch.column("train/clipped") == [1.0]
        assert not torch.equal(weights(policy), start_weights(start))


def test_a_clip_beside_another_surrogate_is_refused(start):
    with pytest.raises(ValueError, match="leave out `policy_loss`, or `clip`"):
        GRPOModule(start, LengthReward(), clip=Clip(0.1), policy_loss=CISPO())


class Given(SampleWeights):
    """0, 1, 3, 1 to the completions of every group: their sum is not their number."""

    def __call__(self, group):
        return [0.0, 1.0, 3.0, 1.0]


def weighted_sums(batch, term_NT, weights, power):
    """Sum over completions of weight * (sum of the term over tokens) / length^power, by hand."""
    total = 0.0
    for n, row in enumerate(batch.rows_N.tolist()):
        terms = term_NT[n][batch.mask_NT[n]].tolist()
        total += weights[row % 4] * sum(terms) / len(terms) ** power
    return total


@pytest.mark.parametrize("kind", [GRPOModule, DrGRPOModule, RLOOModule, GSPOModule, PPOModule])
def test_the_loss_is_the_mean_weighted_by_sample(kind, start, tmp_path):
    """Oracle of a first update: every ratio is 1, so a token's loss is -A; each kind's mean with its weights."""
    watch, policy, weights = Watch(), module(start, kind, group=GroupSettings(4, weights=Given())), [0, 1, 3, 1]
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    assert {row % 4 for row in batch.rows_N.tolist()} == {1, 2, 3}
    lengths = [len(row) for group in policy.groups for row in group.completions]
    tokens = sum(weights[row % 4] * length for row, length in enumerate(lengths))
    samples = sum(weights) * len(policy.groups)
    divisor = {DrGRPOModule: samples * LONGEST, RLOOModule: samples, GSPOModule: samples}.get(kind, tokens)
    expected = -weighted_sums(batch, batch.advantage_NT, weights, power=float(kind is GSPOModule)) / divisor
    if kind is PPOModule:
        errors_NT = (batch.value_NT - batch.return_NT) ** 2 / 2
        expected += policy.values.weight * weighted_sums(batch, errors_NT, weights, power=0) / tokens
    assert watch.column("train/loss")[0] == pytest.approx(expected, abs=1e-5)


def test_rows_of_weight_0_are_no_part_of_the_moments_of_ppo(start, tmp_path):
    """The second of two minibatches has no weight, and keeps a row all the same."""

    class First(SampleWeights):
        def __call__(self, group):
            seen.append(group)
            return [float(len(seen) <= 2)] * 4

    seen, watch = [], Watch()
    policy = module(start, PPOModule, group=GroupSettings(4, weights=First()), update=UpdateSettings(2))
    fit(policy, tmp_path, max_steps=2, callbacks=[watch])
    first, second = watch.batches[:2]
    assert first.rows_N.tolist() == list(range(8)) and second.weight_N1.tolist() == [[0.0]]
    advantages = first.advantage_NT[first.mask_NT]
    assert advantages.mean().item() == pytest.approx(0, abs=1e-5)
    assert advantages.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_a_rollout_without_weight_teaches_ppo_nothing_and_breaks_nothing(start, tmp_path):
    class Nothing(SampleWeights):
        def __call__(self, group):
            return [0.0] * 4

    policy = module(start, PPOModule, group=GroupSettings(4, weights=Nothing()))
    fit(policy, tmp_path, max_steps=1)
    assert torch.equal(weights(policy), start_weights(start))


def test_weights_add_up_over_minibatches(start, tmp_path):
    """Gradients of parts add up to those of the whole under weights, too."""
    ends = []
    for minibatches in (1, 4):
        policy = module(start, group=GroupSettings(4, weights=Given()), update=UpdateSettings(minibatches))
        fit(policy, tmp_path, accumulate_grad_batches=minibatches, max_steps=1)
        ends.append(weights(policy) - start_weights(start))
    assert ends[0].abs().max() > 1e-3
    assert torch.allclose(*ends, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [[1.0, 1.0, 1.0, -1.0], [1.0], [1.0, math.nan, 1.0, 1.0]])
def test_weights_that_are_none_are_refused(bad, start, tmp_path):
    class Bad(SampleWeights):
        def __call__(self, group):
            return bad

    with pytest.raises(ValueError, match="finite and at least 0"):
        fit(module(start, group=GroupSettings(4, weights=Bad())), tmp_path, max_steps=1)


@pytest.mark.parametrize(("solved", "weight"), [(0, 0.25), (1, 1.0), (2, 1.0), (3, 0.25), (4, 0.25)])
def test_weights_by_solve_rate(solved, weight):
    """Between a quarter and a half of four."""
    right, wrong = (SimpleNamespace(answer_correct=found, errors=()) for found in (True, False))
    group = SimpleNamespace(reports=[right] * solved + [wrong] * (4 - solved))
    found = SolveRateWeights(0.25, 0.5, outside=0.25)(group)
    assert found == [weight] * 4
    assert SolveRateWeights(0.0, 1.0)(group) == [1.0] * 4


def test_a_range_of_solve_rates_that_is_none_is_refused():
    with pytest.raises(ValueError, match="low <= high"):
        SolveRateWeights(0.5, 0.2)


def test_truncated_completions_have_no_loss_but_count_in_the_baseline(start, tmp_path):
    watch, policy = Watch(), module(start, Stopping, group=GroupSettings(4, mask_truncated=True))
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    ended = [row[-1] % 2 == 0 for group in policy.groups for row in group.completions]
    (batch,) = watch.batches
    assert 0 < sum(ended) < 16
    assert batch.rows_N.tolist() == [row for row in range(16) if ended[row]]
    assert watch.column("train/truncated")[0] == pytest.approx(1 - sum(ended) / 16)
    advantages = weighted_sums(batch, batch.advantage_NT, [1] * 4, power=0)
    assert watch.column("train/loss")[0] == pytest.approx(-advantages / batch.mask_NT.sum().item(), abs=1e-5)
    free = Watch()
    fit(module(start, Stopping), tmp_path, max_steps=1, callbacks=[free])
    kept = [free.batches[0].rows_N.tolist().index(row) for row in batch.rows_N.tolist()]
    width = batch.mask_NT.shape[1]
    assert torch.equal(batch.advantage_NT, free.batches[0].advantage_NT[kept, :width])


def test_a_rollout_of_truncated_completions_alone_changes_nothing(start, tmp_path):
    class Never(GRPOModule):
        stop_ids = ()

    policy = module(start, Never, group=GroupSettings(4, mask_truncated=True), kl=KLPenalty(weight=0.1))
    fit(policy, tmp_path, max_steps=1)
    assert torch.equal(weights(policy), start_weights(start))


def test_the_overlong_penalty_counts_tokens(start, tmp_path):
    penalty = OverlongPenalty(cache=8, weight=2.0)
    assert [penalty(n, 12) for n in (3, 4, 8, 12, 14)] == [0.0, 0.0, -1.0, -2.0, -2.0]
    watch, policy = Watch(), module(start, group=GroupSettings(4, overlong=penalty))
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    lengths = [len(row) for group in policy.groups for row in group.completions]
    expected = [-2.0 * min(1.0, max(0.0, (n - (LONGEST - 8)) / 8)) for n in lengths]
    found = [penalty for group in policy.groups for penalty in group.overlong]
    assert found == pytest.approx(expected) and len(set(found)) > 2
    assert watch.column("train/reward/overlong")[0] == pytest.approx(sum(expected) / 16)


def test_the_gap_to_the_sampler_is_that_of_tokens_and_is_corrected(start, tmp_path):
    """The script says that every token has log-probability 0."""
    watch, update = Watch(), UpdateSettings(correction=SamplerCorrection(most=1.0))
    policy = module(start, update=update, lr=0.0)
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    logp = forced_logp(policy.language_model, batch)
    assert watch.column("train/sampler_gap_nats")[0] == pytest.approx(logp.abs().mean().item(), rel=1e-4)
    assert watch.column("train/sampler_gap_max_nats")[0] == pytest.approx(logp.abs().max().item(), rel=1e-4)
    expected = -(logp.exp() * batch.advantage_NT[batch.mask_NT]).sum() / batch.tokens
    assert watch.column("train/loss")[0] == pytest.approx(expected.item(), abs=1e-6)
    assert watch.column("train/sampler_weight")[0] == pytest.approx(logp.exp().mean().item(), rel=1e-4)


@pytest.fixture
def sharp(start, tmp_path):
    """A folder of weights that are sure of the next token."""
    model = load_language_model(start)
    model.get_input_embeddings().weight.data *= 8
    model.save_pretrained(tmp_path / "sharp")
    return str(tmp_path / "sharp")


def test_a_bonus_on_entropy_has_its_weight(start, tmp_path):
    """The first update's loss: -mean(A) - 0.3 mean(-log pi^2 / 2) over tokens."""
    watch, policy = Watch(), module(start, update=UpdateSettings(entropy_weight=0.3), lr=0.0)
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    logp = forced_logp(policy.language_model, batch)
    expected = -batch.advantage_NT[batch.mask_NT].mean() + 0.3 * (logp**2).mean() / 2
    assert watch.column("train/loss")[0] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.long
def test_a_bonus_on_entropy_raises_it(sharp, tmp_path):
    class Constant(Reward):
        def __call__(self, response, report):
            return {"constant": 1.0}

    found = {}
    for weight in (0.0, 1.0):
        policy = GRPOModule(
            sharp, Constant(), group=GroupSettings(4), update=UpdateSettings(entropy_weight=weight),
            sampling=SamplingParams(max_new_tokens=LONGEST), optimizer=AdamW(lr=0.01, weight_decay=0.0),
        )  # fmt: skip
        torch.manual_seed(0)
        watch = Watch()
        fit(policy, tmp_path, max_steps=5, callbacks=[watch])
        batch = watch.batches[-1]
        with torch.no_grad():
            logits = policy.language_model(input_ids=batch.tokens_NT[:, :-1]).logits[batch.mask_NT]
        found[weight] = torch.distributions.Categorical(logits=logits).entropy().mean().item()
    assert found[1.0] > found[0.0] + 0.3


def test_a_reset_makes_the_policy_its_own_reference_and_the_optimiser_new(start, tmp_path):
    kl, moved = KLPenalty(weight=0.1, reset_every=2), []

    class State(Watch):
        def on_train_batch_end(self, trainer, pl_module, *args):
            super().on_train_batch_end(trainer)
            moved.append(max(int(state["step"]) for state in trainer.optimizers[0].state.values()))

    watch, policy = State(), module(start, kl=kl, optimizer=AdamW(lr=0.01, weight_decay=0.0))
    trainer = fit(policy, tmp_path, max_steps=5, callbacks=[watch])
    kls = watch.column("train/rollout_kl_nats")
    assert [kl == 0 for kl in kls] == [True, False, True, False, True]
    assert moved == [1, 2, 1, 2, 1]
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = module(start, kl=kl)
    other.on_load_checkpoint(torch.load(tmp_path / "x.ckpt", weights_only=True))
    assert other.rollouts == 5
    found = torch.cat([p.flatten() for p in other.reference.model.parameters()])
    assert torch.equal(found, watch.policies[4])


def test_a_teacher_that_sees_a_window_keeps_it(start, tmp_path):
    """Its rows do not share prompts as the policy's do."""
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    torch.manual_seed(1)
    teacher = build_language_model(TINY | window).eval()
    teacher.save_pretrained(tmp_path / "teacher")
    watch, policy = Watch(), module(start, kl=KLPenalty("k2", weight=0.1, reference=str(tmp_path / "teacher")))
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    assert torch.allclose(batch.logp_ref_NT[batch.mask_NT], forced_logp(teacher, batch), atol=1e-4)


@pytest.mark.long
def test_a_teacher_of_another_size_pulls_the_policy_to_itself(sharp, tmp_path):
    torch.manual_seed(1)
    larger = build_language_model(TINY | {"hidden_size": 48, "num_hidden_layers": 3})
    larger.save_pretrained(tmp_path / "teacher")
    nothing = WeightedSum({"length": LengthReward()}, {"length": 0.0})
    kl = KLPenalty("k2", weight=1.0, reference=str(tmp_path / "teacher"))
    policy = GRPOModule(
        sharp, nothing, group=GroupSettings(4), kl=kl, sampling=SamplingParams(max_new_tokens=LONGEST),
        optimizer=AdamW(lr=0.01, weight_decay=0.0),
    )  # fmt: skip
    torch.manual_seed(0)
    watch = Watch()
    fit(policy, tmp_path, max_steps=8, callbacks=[watch])
    batch = watch.batches[0]
    with torch.no_grad():
        logits = larger(input_ids=batch.tokens_NT[:, :-1]).logits.log_softmax(-1)
    expected = logits.gather(-1, batch.tokens_NT[:, 1:, None]).squeeze(-1)[batch.mask_NT]
    assert torch.allclose(batch.logp_ref_NT[batch.mask_NT], expected, atol=1e-4)
    divergence = watch.column("train/rollout_kl_nats")
    assert divergence[-1] < 0.7 * divergence[0]
    state = policy.compute.state()
    count, attended = state["phases"]["reference log-probabilities"]
    by_teacher = forward_flops(larger.config, tokens=count, context=attended / count)
    assert policy.ledger(state)["phases"]["reference log-probabilities"]["flops"] == pytest.approx(by_teacher)


def test_a_temperature_that_falls_is_that_of_sampling_and_of_the_loss_and_is_resumed(start, tmp_path):
    watch, group = Watch(), GroupSettings(4, temperature=Ramp(2.0, 1.0, end=0.5))
    update = UpdateSettings(2)  # two steps a rollout
    policy = module(start, group=group, update=update)
    policies = []

    class Temperatures(Watch):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            policies.append(pl_module.sampling.temperature)
            if batch_idx == 3:
                trainer.save_checkpoint(tmp_path / "x.ckpt")

    fit(policy, tmp_path, max_steps=8, callbacks=[watch, Temperatures()])
    assert policies == [2.0, 2.0, 1.5, 1.5, 1.0, 1.0, 1.0, 1.0] == watch.column("train/temperature")
    assert policy.collector.sampling.temperature == 1.0
    ratios = watch.column("train/ratio")
    assert ratios[0] == ratios[2] == ratios[4] == 1.0
    other = module(start, group=group, update=update)
    other.on_load_checkpoint(torch.load(tmp_path / "x.ckpt", weights_only=True))
    assert other.sampling.temperature == other.collector.sampling.temperature == 1.5
    with pytest.raises(ValueError, match="above 0"):
        GroupSettings(temperature=Ramp(1.0, 0.0))


def test_k_is_annealed(start, tmp_path):
    watch, policy = Watch(), module(start, BestOfKModule, k=Ramp(3, 1))
    fit(policy, tmp_path, max_steps=4, callbacks=[watch])
    assert watch.column("train/k") == [3.0, 2.0, 2.0, 2.0]  # 3, 2.5, 2, 1.5; halves go to the even number
    rewards = torch.tensor([group.rewards for group in policy.groups])
    batch = watch.batches[-1]
    expected = best_of_k_advantages(rewards, k=2).flatten()[batch.rows_N, None] * batch.mask_NT
    assert torch.allclose(batch.advantage_NT, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [BestOfKModule, PKPOModule, MaxRLModule])
def test_objectives_learn_under_credit_for_steps(kind, start, tmp_path):
    k = {} if kind is MaxRLModule else {"k": 2}
    policy = module(start, kind, credit=NodeCredit(), **k)
    fit(policy, tmp_path, max_steps=1)
    assert (weights(policy) - start_weights(start)).abs().max() > 1e-4


class Faulty(Reward):
    def __init__(self, act):
        self.act = act

    def __call__(self, response, report):
        return self.act()


FAULTS = {
    "raised ZeroDivisionError: division by zero": lambda: 1 / 0,
    "returned None": lambda: None,
    "returned nan as 'part'": lambda: {"part": math.nan},
    "returned inf as 'part'": lambda: {"part": math.inf},
    "returned None as 'part'": lambda: {"part": None},
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_reward_that_fails_is_named_with_the_response(what, start, tmp_path):
    with pytest.raises(RewardError) as caught:
        fit(module(start, reward=Faulty(FAULTS[what])), tmp_path, max_steps=1)
    assert f"test_objective_runs.Faulty {what}" in str(caught.value)
    assert "The response: '" in str(caught.value)


def test_a_reward_may_abstain_in_part_or_whole(start, tmp_path):
    class Sometimes(Reward):
        def __call__(self, response, report):
            kinds = [{}, {"a": 1.0}, {"a": 3.0, "b": 1.0}]
            return kinds[len(response) % 3]

    watch, policy = Watch(), module(start, reward=Sometimes())
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    parts = [part for group in policy.groups for part in group.parts]
    absent = [not part for part in parts]
    assert 0 < sum(absent) < 16
    (log,) = watch.logs
    assert log["train/abstained"] == pytest.approx(sum(absent) / 16)
    of_a = [part["a"] for part in parts if part]
    assert log["train/reward/a"] == pytest.approx(sum(of_a) / len(of_a))
    assert log["train/reward/b"] == 1.0
    for group in policy.groups:
        judged = [sum(part.values()) for part in group.parts if part]
        mean = sum(judged) / len(judged) if judged else 0.0
        assert group.rewards == pytest.approx([sum(part.values()) if part else mean for part in group.parts])
    assert not set(watch.batches[0].rows_N.tolist()) & {row for row in range(16) if absent[row]}


def test_minibatches_of_earlier_checkpoints_are_restored(start, tmp_path):
    policy = module(start)
    fit(policy, tmp_path, max_steps=1)
    held = policy.collect(policy.trainer.datamodule.prompts(4), partial(policy.trainer.datamodule.prompts, 4))[0]
    state = {key: value for key, value in held.state_dict().items() if key not in ("logp_sampled_NT", "weight_N1")}
    (restored,) = policy.restore([state | {"logp_sampled_N": torch.zeros(len(held.rows_N))}])
    assert restored.logp_sampled_NT is None and restored.weight_N1.tolist() == [[1.0]] * len(held.rows_N)
    assert torch.equal(restored.advantage_NT, held.advantage_NT)


def test_settings_that_make_no_sense_are_refused(start):
    for build_one, message in (
        (lambda: KLPenalty(reset_every=2), "kl.weight"), (lambda: KLPenalty(weight=1.0, reset_every=-1), "at least 0"),
        (lambda: KLPenalty(reference="x"), "needs `kl.weight`"), (lambda: UpdateSettings(entropy_weight=-1.0), "at least 0"),
        (lambda: KLPenalty(weight=1.0, reference="x", reference_decay=0.5), "teacher"),
        (lambda: OverlongPenalty(0), "cache of at least 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            build_one()
