"""Settings of RL that meet: penalties, truncation, abstention, KL in the reward, teachers; and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from policy_runs import LengthReward, Stopping, Watch, fit, forced_logp, module

import main
from lightning_modules import BestOfKModule, DrGRPOModule, GRPOModule, MaxRLModule, PPOModule
from lightning_modules.models import label_scores
from lightning_modules.models.critic import SeparateCritic
from lightning_modules.models.language_model import build_language_model
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.experience import Group
from lightning_modules.policy.policy_module import UpdateSettings
from lightning_modules.policy.sample_weights import SolveRateWeights
from lightning_modules.policy.sampler_correction import SamplerCorrection
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rewards import NoisyVerifier, OverlongPenalty, Reward, RewardError, StrictReward, WeightedSum, score
from lightning_modules.rollout import SamplingParams
from lightning_modules.schedules import Ramp
from tests_support import TINY


class Flat(Reward):
    def __call__(self, response, report):
        return {"flat": 0.0}


class Sometimes(Reward):
    def __call__(self, response, report):
        return {} if len(response) % 2 else {"a": float(len(response))}


def teacher_of(folder, **changes):
    torch.manual_seed(1)
    teacher = build_language_model(TINY | changes).eval()
    teacher.save_pretrained(folder)
    return teacher


def test_a_penalty_on_tokens_makes_no_group_worth_keeping(start, tmp_path):
    watch, group = Watch(), GroupSettings(4, resample=1, overlong=OverlongPenalty(cache=8))
    policy = module(start, reward=Flat(), group=group)
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (log,) = watch.logs
    assert (log["train/zero_variance"], log["train/groups_sampled_per_group"]) == (1.0, 2.0)
    assert log["train/reward"] == log["train/reward/overlong"] < 0
    assert any(len(set(group.rewards)) > 1 for group in policy.groups)  # short ones still gain over long ones


def test_penalties_leave_abstention_as_it_is(start, tmp_path):
    watch, group = Watch(), GroupSettings(4, overlong=OverlongPenalty(cache=8))
    policy = module(start, reward=NoisyVerifier(Sometimes(), 0.5, 0.5), group=group)
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    absent = [not part for group in policy.groups for part in group.parts]
    assert 0 < sum(absent) < 16
    assert watch.logs[0]["train/abstained"] == pytest.approx(sum(absent) / 16)
    assert not set(watch.batches[0].rows_N.tolist()) & {row for row in range(16) if absent[row]}


def test_a_group_whose_judged_completions_earn_the_same_does_not_vary():
    """The mean of three times 0.1 is not 0.1 in floating point."""
    parts = [{"a": 0.1}] * 3 + [{}]
    group = Group(None, [], [[1]] * 4, [torch.zeros(1)] * 4, [""] * 4, [None] * 4, parts)
    assert not group.varies


def test_penalties_count_by_what_a_models_positions_leave(start, tmp_path):
    policy = module(start, group=GroupSettings(4, overlong=OverlongPenalty(cache=2)))
    fit(policy, tmp_path, max_steps=1)
    positions = TINY["max_position_embeddings"]
    assert policy.collector._overlong(positions - 5, [[1] * 3, [1] * 4, [1] * 5]) == [0.0, -0.5, -1.0]


def test_a_row_without_loss_is_charged_for_its_divergence_like_the_others(start, tmp_path):
    teacher_of(tmp_path / "teacher")
    kl = KLPenalty("k1", "reward", weight=0.1, reference=str(tmp_path / "teacher"))
    watch, policy = Watch(), module(start, DrStopping, group=GroupSettings(4, mask_truncated=True), kl=kl, reward=Flat())
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    assert batch.rows_N.tolist() == list(range(16)) and 0 < (batch.weight_N1 == 0).sum() < 16
    rewards_BG = batch.token_rewards_NT.sum(dim=1).view(4, 4)
    assert (rewards_BG != 0).all()
    expected = (rewards_BG - rewards_BG.mean(dim=1, keepdim=True)).view(16, 1) * batch.mask_NT
    assert torch.allclose(batch.advantage_NT, expected, atol=1e-5)


class DrStopping(DrGRPOModule):
    stop_ids = Stopping.stop_ids


def test_a_teacher_that_caps_its_logits_is_scored_with_them(start, tmp_path, monkeypatch):
    teacher = teacher_of(tmp_path / "teacher", model_type="gemma2", head_dim=8, final_logit_softcapping=0.1)
    monkeypatch.setattr(label_scores, "LOGITS_AT_ONCE", 600 * 5)  # logits are made part by part where the head allows it
    watch, policy = Watch(), module(start, kl=KLPenalty("k2", weight=0.1, reference=str(tmp_path / "teacher")))
    fit(policy, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    assert torch.allclose(batch.logp_ref_NT[batch.mask_NT], forced_logp(teacher, batch), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "kl.reference '.*teacher' does not exist"), ({"vocab_size": 300}, "has 300 entries, the tokenizer"),
        ({"max_position_embeddings": 16}, "has 16 positions, a prompt with its completion"),
    ],
)  # fmt: skip
def test_a_teacher_that_cannot_be_one_is_refused(start, tmp_path, changes, message):
    if changes is not None:
        teacher_of(tmp_path / "teacher", **changes)
    with pytest.raises(ValueError, match=message):
        fit(module(start, kl=KLPenalty(weight=0.1, reference=str(tmp_path / "teacher"))), tmp_path, max_steps=1)


def test_check_looks_for_the_teacher(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    configs = Path(__file__).parent.parent / "configs"
    files = [configs / "experiment/quickstart_grpo.yaml", configs / "objective/distillation.yaml"]
    assert main.main(["check", *map(str, files)]) == 2
    assert "model.init_args.kl.reference 'runs/teacher/huggingface' does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (BestOfKModule, {"k": 2, "std_correction": None}, "divides by a std of its own"),
        (BestOfKModule, {"k": 2, "std_correction": 1}, "divides by a std of its own"),
        (MaxRLModule, {"group": GroupSettings(4, overlong=OverlongPenalty(4))}, "rewards must not fall below 0"),
        (MaxRLModule, {"kl": KLPenalty("k1", "reward", weight=0.1)}, "rewards must not fall below 0"),
        (DrGRPOModule, {"group": GroupSettings(4, overlong=OverlongPenalty(200))}, "lower it below sampling.max_new_tokens=12"),
        (DrGRPOModule, {"std_correction": 1}, "or set it to 0"),
    ],
)
def test_settings_that_would_be_ignored_or_fail_later_are_refused(start, kind, settings, message):
    with pytest.raises(ValueError, match=message):
        module(start, kind, **settings)


def test_names_and_pairs_without_sense_are_refused():
    for build, message in (
        (lambda: GroupSettings(4, mask_truncated=True, overlong=OverlongPenalty(4)), "leave out one of them"),
        (lambda: StrictReward("executble"), "choose from answer, paper, executable, released"),
        (lambda: SolveRateWeights(grader="released"), "choose from answer, paper, executable"),
        (lambda: NoisyVerifier(LengthReward(), grader="x"), "grader 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_the_reward_at_fault_is_named_within_a_sum_and_numbers_of_numpy_are_numbers():
    class Silent(Reward):
        def __call__(self, response, report):
            return None

    class Numpy(Reward):
        def __call__(self, response, report):
            return {"a": np.float32(0.5), "b": np.int64(1)}

    with pytest.raises(RewardError, match=r"Silent returned None"):
        score(WeightedSum({"one": LengthReward(), "other": Silent()}), "x", None)
    assert score(WeightedSum({"it": Numpy()}), "x", None) == {"it/a": 0.5, "it/b": 1.0}


@pytest.mark.parametrize("warm", [{"sampling": SamplingParams(temperature=0.7, engine="vllm")}, {
    "sampling": SamplingParams(engine="vllm"), "group": GroupSettings(4, temperature=Ramp(1.0, 0.5))}])  # fmt: skip
def test_a_correction_is_refused_where_the_sampler_tells_no_probabilities(warm):
    with pytest.raises(ValueError, match="which vLLM has at temperature 1 alone"):
        GRPOModule("start", LengthReward(), update=UpdateSettings(correction=SamplerCorrection()), **warm)
    GRPOModule(
        "start", LengthReward(), update=UpdateSettings(correction=SamplerCorrection()), sampling=SamplingParams(engine="vllm")
    )


def test_values_of_an_update_are_those_of_all_its_minibatches(monkeypatch):
    """Oracle: by hand; three minibatches make the first update, one the second."""
    module, logged = GRPOModule("start", LengthReward()), {}
    monkeypatch.setattr(module, "log", lambda name, value, **how: logged.__setitem__(name, value.item()))
    for step, values in ((0, (1.0, 5.0, 3.0)), (1, (7.0,))):
        strategy = SimpleNamespace(reduce=lambda value, reduce_op: value)
        monkeypatch.setattr(GRPOModule, "trainer", SimpleNamespace(global_step=step, strategy=strategy))
        for value in values:
            module.update_log.add("mean", torch.tensor(value))
            module.update_log.most("most", torch.tensor(value))
        assert logged == {"mean": sum(values) / len(values), "most": max(values)}


def test_a_value_of_an_update_weighs_tokens_alike_whichever_process_has_them(monkeypatch):
    """Oracle: the mean over the tokens of two processes, of which the second has one, and of two minibatches."""
    module, logged = GRPOModule("start", LengthReward()), {}
    monkeypatch.setattr(module, "log", lambda name, value, **how: logged.__setitem__(name, value.item()))
    other = {"sum": torch.tensor([9.0, 1.0], dtype=torch.float64), "max": torch.tensor(9.0)}
    joined = {"sum": torch.add, "max": torch.maximum}
    strategy = SimpleNamespace(reduce=lambda value, reduce_op: joined[reduce_op](value, other[reduce_op]))
    monkeypatch.setattr(GRPOModule, "trainer", SimpleNamespace(global_step=0, strategy=strategy))
    for terms in ([1.0, 2.0, 100.0], [4.0, 5.0, 100.0]):
        module.update_log.mean("mean", torch.tensor([terms]), torch.tensor([[True, True, False]]))
        module.update_log.most("most", torch.tensor(terms[0]))
    assert logged == {"mean": pytest.approx((1 + 2 + 9 + 4 + 5 + 9) / 6), "most": 9.0}


def test_a_separate_critic_recomputes_what_the_policy_does(start, tmp_path):
    module = PPOModule(start, LengthReward(), critic=SeparateCritic(), gradient_checkpointing=True)
    module.configure_model()
    for model in (module.language_model, module.critic.model):
        assert sum(getattr(part, "gradient_checkpointing", False) for part in model.modules()) > 0
