"""PPO as a Lightning module: gradients under any cut of the batch, first ratios, critics that learn, one optimiser."""

import pytest
import torch
from jsonargparse import ArgumentParser
from policy_runs import HalfwayCredit, LengthReward, Watch, all_weights, build, fit, start_weights, weights

from lightning_modules import PPOModule
from lightning_modules.evaluation import Evaluation
from lightning_modules.formulas import generalised_advantages
from lightning_modules.models.critic import SeparateCritic, SharedCritic
from lightning_modules.models.language_model import load_language_model
from lightning_modules.optimizers import AdamW, Chained, Muon
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.policy.ppo import ValueLearning
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rewards import Credit, Earned, OutcomeReward
from lightning_modules.rollout import SamplingParams

CRITICS = (SharedCritic, SeparateCritic)


def ppo(start, critic, **settings):
    values = settings.pop("values", ValueLearning(clip=None, weight=0.1))
    reward = settings.pop("reward", LengthReward(0.1))
    return build(start, PPOModule, critic=critic(), reward=reward, values=values, **settings)


@pytest.mark.parametrize("critic", CRITICS)
def test_accumulated_gradients_are_those_of_the_whole_rollout(critic, start, tmp_path):
    ends = []
    for minibatches in (1, 8):  # parts of two rows, of uneven lengths
        module = ppo(start, critic, beta=0.2, minibatches=minibatches, credit=HalfwayCredit())
        fit(module, tmp_path, accumulate_grad_batches=minibatches)
        ends.append(all_weights(module))
    before = start_weights(start)
    moved = (ends[0][: len(before)] - before).abs().max()
    assert moved > 1e-3
    assert torch.allclose(*ends, rtol=1e-4, atol=1e-4 * moved)


@pytest.mark.parametrize("critic", CRITICS)
def test_the_first_ratio_is_exactly_one(critic, start, tmp_path):
    watch = Watch()
    fit(ppo(start, critic, beta=0.1, minibatches=2), tmp_path, accumulate_grad_batches=2, callbacks=[watch])
    assert watch.column("train/ratio") == [1.0] * 6
    assert watch.column("train/clipped") == [0.0] * 6


class FirstHalf(Credit):
    """The first half earns 1, the second nothing: what is still to come can be told from where a token stands."""

    def __call__(self, responses, reports):
        return [[Earned(max(1, len(text) // 2), 1.0)] for text in responses]


def test_a_critic_expects_nothing_at_first_and_explains_returns_later(start, tmp_path):
    torch.manual_seed(0)
    watch, values = Watch(), ValueLearning(clip=None, decay=1.0)
    module = ppo(
        start, SeparateCritic, lr=0.0, reward=LengthReward(0.0), credit=FirstHalf(), epochs=3, values=values,
        critic_optimizer=AdamW(lr=3e-3),
    )  # fmt: skip
    fit(module, tmp_path, max_steps=60, callbacks=[watch])
    assert (watch.batches[0].value_NT == 0).all()
    explained = watch.column("train/explained_variance")[::3]
    assert explained[0] == pytest.approx(0, abs=1e-6)
    assert sum(explained[-4:]) / 4 > 0.05  # .13 to .36, as weights are drawn
    assert torch.equal(weights(module), start_weights(start))  # the policy's rate is 0


def test_advantages_are_those_of_the_values_normalised_over_the_rollout(start, tmp_path):
    watch = Watch()
    module = ppo(start, SharedCritic, minibatches=2, credit=HalfwayCredit(), beta=0.5, kl=KLPenalty("k1", "reward"))
    fit(module, tmp_path, max_steps=4, callbacks=[watch])
    batches = watch.batches[-2:]
    raw = [generalised_advantages(b.token_rewards_NT, b.value_NT, b.mask_NT, decay=0.95) for b in batches]
    kept = torch.cat([a[b.mask_NT] for a, b in zip(raw, batches, strict=True)])
    for advantage, batch in zip(raw, batches, strict=True):
        expected = (advantage - kept.mean()) / kept.std(correction=0)
        assert torch.allclose(batch.advantage_NT[batch.mask_NT], expected[batch.mask_NT], atol=1e-4)
        assert torch.allclose(batch.return_NT, advantage + batch.value_NT)
    kl = [(b.logp_old_NT - b.logp_ref_NT)[b.mask_NT].abs().max() for b in batches]
    assert max(kl) > 1e-4  # and it is in the rewards of tokens that earn nothing else
    assert all((b.token_rewards_NT[b.mask_NT] != 0).float().mean() > 0.9 for b in batches)


def test_the_policy_learns_what_earns_more(start, tmp_path):
    watch = Watch()
    torch.manual_seed(0)
    module = PPOModule(
        start, LengthReward(0.1), group=GroupSettings(4), sampling=SamplingParams(max_new_tokens=12),
        values=ValueLearning(clip=None),
        optimizer=AdamW(lr=3e-3, weight_decay=0.0), evaluation=Evaluation(samples=1, sampling=SamplingParams(max_new_tokens=4)),
    )  # fmt: skip
    fit(module, tmp_path, max_steps=30, callbacks=[watch])
    rewards = watch.column("train/reward")
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


@pytest.mark.parametrize("critic", CRITICS)
def test_a_checkpoint_holds_the_critic_and_starts_a_stage_without_it(critic, start, tmp_path):
    module = ppo(start, critic)
    fit(module, tmp_path, max_steps=1).save_checkpoint(tmp_path / "x.ckpt")
    assert any(name.startswith("critic.head") for name in torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"])
    loaded = torch.cat([p.flatten() for p in load_language_model(str(tmp_path / "x.ckpt")).parameters()])
    assert torch.equal(loaded, weights(module))


def test_one_optimiser_has_the_groups_of_policy_and_critic(start, tmp_path):
    module = ppo(start, SeparateCritic, critic_optimizer=AdamW(lr=0.25))
    module.optimizer = Muon(lr=0.125, adamw_lr=0.5)
    trainer = fit(module, tmp_path, max_steps=2)
    (optimizer,) = trainer.optimizers
    assert isinstance(optimizer, Chained)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.5, 0.25, 0.25]
    owners = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in owners} == {id(p) for p in module.parameters()}
    assert len(owners) == len(optimizer.state) == len(list(module.parameters()))
    assert trainer.global_step == 2


def test_ppo_needs_no_group(start, tmp_path):
    watch, module = Watch(), ppo(start, SharedCritic)
    module.collector.group = GroupSettings(1)
    fit(module, tmp_path, prompts=8, callbacks=[watch])
    assert watch.column("train/ratio") == [1.0] * 3
    assert not torch.equal(weights(module), start_weights(start))


@pytest.mark.parametrize(
    "values", [{"discount": 1.5}, {"decay": -0.1}, {"weight": 0.0}, {"clip": 0.0}], ids=lambda v: next(iter(v))
)
def test_values_that_cannot_be_learned_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        ValueLearning(**values)


def test_ppo_is_made_from_a_config():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PolicyModule, "model")
    settings = {
        "init_from": "start", "reward": {"class_path": "lightning_modules.rewards.OutcomeReward"}, "update": {"epochs": 2},
        "critic": {"class_path": "lightning_modules.models.critic.SeparateCritic", "init_args": {"init_from": "other"}},
        "values": {"decay": 0.9}, "credit": {"class_path": "lightning_modules.rewards.StepCredit", "init_args": {"wrong": 0.0}},
    }  # fmt: skip
    config = {"class_path": "lightning_modules.PPOModule", "init_args": settings}
    module = parser.instantiate_classes(parser.parse_object({"model": config})).model
    assert (module.critic.init_from, module.values, module.epochs) == ("other", ValueLearning(decay=0.9), 2)
    assert isinstance(PPOModule("start", OutcomeReward()).critic, SharedCritic)
