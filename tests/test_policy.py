"""GRPO and its variants: gradients under any cut of the batch, first ratios, groups replaced, references, penalties, settings."""

from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import Trainer
from policy_runs import LONGEST, LengthReward, Watch, build, fit, problems, start_weights, weights
from transformers import AutoConfig, AutoModelForCausalLM

from datamodules.reinforcement import ExperienceLoader
from grammar.checking.pool import Verifier
from lightning_modules import DrGRPOModule, GRPOModule, GSPOModule, RLOOModule
from lightning_modules.formulas import group_advantages
from lightning_modules.models.language_model import build_language_model, disable_dropout
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import PolicyModule, UpdateSettings
from lightning_modules.policy.trust_region import Clip, KLPenalty
from lightning_modules.rewards import OutcomeReward
from lightning_modules.rollout import SamplingParams
from tests_support import grouped

VARIANTS = (GRPOModule, DrGRPOModule, GSPOModule, RLOOModule)


@pytest.mark.parametrize("variant", VARIANTS)
def test_accumulated_gradients_are_those_of_the_whole_rollout(variant, start, tmp_path):
    ends = []
    for minibatches in (1, 8):  # parts of two rows, of uneven lengths
        module = build(start, variant, beta=0.2, minibatches=minibatches)
        fit(module, tmp_path, accumulate_grad_batches=minibatches)
        ends.append(weights(module))
    moved = (ends[0] - start_weights(start)).abs().max()
    assert moved > 1e-3
    assert torch.allclose(*ends, rtol=0, atol=1e-4 * moved)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_first_ratio_of_every_variant_is_exactly_one(variant, beta, start, tmp_path):
    watch = Watch()
    fit(build(start, variant, beta=beta, minibatches=2), tmp_path, accumulate_grad_batches=2, callbacks=[watch])
    assert watch.column("train/ratio") == [1.0] * 6
    assert watch.column("train/clipped") == [0.0] * 6


def test_sampler_and_training_agree_on_log_probabilities(start, tmp_path):
    gaps = []
    for sampling in (SamplingParams(max_new_tokens=LONGEST, temperature=0.7), SamplingParams(max_new_tokens=LONGEST, top_k=5)):
        watch = Watch()
        module = GRPOModule(start, LengthReward(), sampling=sampling, **grouped(minibatches=2))
        fit(module, tmp_path, max_steps=2, callbacks=[watch])
        gaps.append(watch.column("train/sampler_gap_nats")[0])
    assert 0 < max(gaps) < 1e-5


def test_later_epochs_are_clipped(start, tmp_path):
    watch = Watch()
    fit(build(start, epochs=3, lr=3.0, clip=Clip(0.01, 0.02)), tmp_path, callbacks=[watch])
    shares = watch.column("train/clipped")
    assert shares[0] == 0.0
    assert shares[2] > 0.1


def test_groups_without_variance_are_replaced_by_fresh_ones(start, tmp_path):
    watch, module = Watch(), build(start, flat=True, resample=20)
    fit(module, tmp_path, prompts=8, max_steps=1, callbacks=[watch])
    (log,) = watch.logs
    assert 0 < log["train/zero_variance"] < 1
    assert log["train/zero_variance_left"] == 0
    assert log["train/groups_sampled_per_group"] > 1
    assert all(group.varies for group in module.groups)
    assert len({tuple(group.prompt) for group in module.groups}) == len(module.groups) == 8
    untouched = build(start, flat=True)
    fit(untouched, tmp_path, prompts=8, max_steps=1)
    for before, after in zip(untouched.groups, module.groups, strict=True):
        assert before.prompt == after.prompt or not before.varies


def test_problems_that_all_groups_agree_on_are_asked_no_more_often_than_allowed(start, tmp_path):
    watch = Watch()
    fit(build(start, reward=OutcomeReward(), resample=2), tmp_path, max_steps=1, callbacks=[watch])  # solves nothing
    assert watch.logs[0]["train/zero_variance_left"] == 1
    assert watch.logs[0]["train/groups_sampled_per_group"] == 3


def test_fresh_problems_are_those_of_no_other_rollout(start, tmp_path):
    data = problems()
    data.trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    data.setup("fit")
    asked = [data.prompts(4 * r) for r in range(3)] + [data.prompts(4 * r, a, 4) for r in range(3) for a in (1, 2)]
    indices = [i for batch in asked for i in batch.indices]
    assert len(set(indices)) == len(indices) == 36
    assert data.prompts(4, 2, 2).prompt_ids == data.prompts(4, 2, 4).prompt_ids[:2]


def test_a_run_that_goes_on_with_other_processes_asks_fresh_problems(start, tmp_path):
    """Two processes have two rollouts of four problems each; then there is one."""
    asked, data = [], problems()
    data.trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    data.setup("fit")

    class Asking:
        epochs = 1

        def collect(self, prompts, more):
            asked.extend(prompts.indices)
            return [None]

    for rank in (0, 1):
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        loader = ExperienceLoader(data, Asking(), 2)
        assert len(list(loader)) == 2
    data.trainer, other = SimpleNamespace(world_size=1, global_rank=0), ExperienceLoader(data, Asking(), 2)
    other.load_state_dict(loader.state_dict())
    assert len(list(other)) == 2
    assert sorted(asked) == list(range(2 * 2 * 4 + 2 * 4))


def test_a_rollout_is_cut_into_any_number_of_parts_that_it_has_rows_for(start, tmp_path):
    fit(build(start, minibatches=7), tmp_path, max_steps=7)  # of 16 completions
    with pytest.raises(ValueError, match="4 problems x 4 completions cannot be cut into 17 minibatches; lower"):
        fit(build(start, minibatches=17), tmp_path, max_steps=17)


SMALL = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2}, "falcon": {"hidden_size": 32, "num_attention_heads": 2},
    "opt": {"hidden_size": 32, "ffn_dim": 32, "num_attention_heads": 2, "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2}, "starcoder2": {"hidden_size": 32, "num_attention_heads": 2,
    "num_key_value_heads": 2, "intermediate_size": 32},
}  # fmt: skip
RATES = ("resid_pdrop", "dropout", "hidden_dropout", "attention_dropout", "residual_dropout")


@pytest.mark.parametrize("kind", SMALL)
def test_dropout_is_disabled_wherever_a_model_keeps_it(kind):
    layers = {} if "n_layer" in SMALL[kind] else {"num_hidden_layers": 2}
    config = AutoConfig.for_model(kind, vocab_size=50, **SMALL[kind], **layers)
    for rate in RATES:
        if hasattr(config, rate):
            setattr(config, rate, 0.5)
    torch.manual_seed(0)
    model, ids = AutoModelForCausalLM.from_config(config).train(), torch.arange(8)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    disable_dropout(model)
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_a_policy_with_dropout_samples_and_learns_alike(tmp_path):
    sizes = {"vocab_size": 600, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024}
    torch.manual_seed(0)
    build_language_model({"model_type": "gpt2", **sizes}).save_pretrained(tmp_path / "gpt2")
    watch = Watch()
    fit(build(str(tmp_path / "gpt2"), minibatches=2, beta=0.1, lr=0.0), tmp_path, callbacks=[watch])
    assert watch.column("train/ratio") == [1.0] * 3


def test_the_checkpoint_of_another_stage_and_half_precision_are_refused(start, tmp_path):
    checkpoint = {"state_dict": {}, "loops": {}}
    with pytest.raises(ValueError, match="init_from"):
        build(start).on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="bf16-mixed"):
        fit(build(start), tmp_path, precision="bf16-true")


def test_a_penalty_in_the_reward_is_taken_off_before_advantages(start, tmp_path):
    watch, module = Watch(), build(start, beta=0.5, lr=3.0, kl=KLPenalty("k1", "reward"))
    fit(module, tmp_path, callbacks=[watch])
    batch = watch.batches[-1]
    kl_N = [sum((o - r) for o, r, m in zip(*rows, strict=True) if m) for rows in zip(
        batch.logp_old_NT.tolist(), batch.logp_ref_NT.tolist(), batch.mask_NT.tolist(), strict=True
    )]  # fmt: skip
    assert max(map(abs, kl_N)) > 0.01
    rewards = torch.tensor([group.rewards for group in module.groups]) - 0.5 * torch.tensor(kl_N).view(4, 4)
    expected = group_advantages(rewards).flatten()[:, None] * batch.mask_NT
    assert torch.allclose(batch.advantage_NT, expected, atol=1e-5)


def test_the_penalty_holds_the_policy_back(start, tmp_path):
    strayed = {}
    for beta in (1e-6, 5.0):
        watch = Watch()
        fit(build(start, beta=beta, lr=1.0, kl=KLPenalty("k2")), tmp_path, max_steps=12, callbacks=[watch])
        strayed[beta] = watch.column("train/rollout_kl_nats")[-1]
    assert 0 < strayed[5.0] < strayed[1e-6] / 2


def test_the_weight_adapts_and_is_resumed(start, tmp_path):
    watch, kl = Watch(), KLPenalty(target=1e-9)
    module = build(start, beta=0.5, lr=3.0, kl=kl)
    trainer = fit(module, tmp_path, callbacks=[watch])
    # the first rollout has not strayed at all, the others far more than the target
    assert watch.column("train/kl_weight") == pytest.approx([0.5 * 0.98, 0.5 * 0.98 * 1.02, 0.5 * 0.98 * 1.02**2])
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = build(start, beta=0.5, kl=kl)
    other.on_load_checkpoint(torch.load(tmp_path / "x.ckpt", weights_only=True))
    assert other.kl_weight == module.kl_weight


def test_the_weight_stays_within_its_bounds():
    kl = KLPenalty(weight=1.0, target=0.1, bounds=(0.9, 1.05))
    assert [kl.next_weight(weight, 9.0) for weight in (1.0, 1.04, 1.05)] == pytest.approx([1.02, 1.05, 1.05])
    assert [kl.next_weight(weight, 0.0) for weight in (1.0, 0.91, 0.9)] == pytest.approx([0.98, 0.9, 0.9])


def test_a_weight_that_its_bounds_fix_is_the_one_that_the_loss_takes(start, tmp_path):
    pinned = KLPenalty(target=1.0, bounds=(0.5, 0.5))
    trained = {name: build(start, beta=beta, lr=1.0, kl=kl) for name, beta, kl in
               (("fixed", 0.5, KLPenalty()), ("pinned", 0.1, pinned), ("free", 0.1, KLPenalty()))}  # fmt: skip
    for module in trained.values():
        fit(module, tmp_path)
    assert torch.equal(weights(trained["pinned"]), weights(trained["fixed"]))
    assert not torch.equal(weights(trained["pinned"]), weights(trained["free"]))


def test_a_reference_without_memory_is_the_policy_of_the_rollout_before(start, tmp_path):
    """On the second rollout that is the policy at the start, as it is of a reference that never moves; on the third no longer."""
    found = {}
    for decay in (0.0, 1.0):
        watch = Watch()
        fit(build(start, beta=0.1, lr=3.0, kl=KLPenalty(reference_decay=decay)), tmp_path, callbacks=[watch])
        found[decay] = watch.column("train/rollout_kl_nats")
    assert found[0.0][:2] == found[1.0][:2]
    assert found[0.0][1] > 0
    assert found[0.0][2] != found[1.0][2]


def test_a_moving_reference_is_the_average_it_should_be_and_is_resumed(start, tmp_path):
    watch, module = Watch(), build(start, beta=0.1, lr=3.0, kl=KLPenalty(reference_decay=0.7))
    trainer = fit(module, tmp_path, callbacks=[watch])
    expected = start_weights(start)
    for policy in watch.policies:
        expected = 0.7 * expected + 0.3 * policy
    found = torch.cat([p.flatten() for p in module.reference.model.parameters()])
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, start_weights(start), atol=1e-4)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = build(start, beta=0.1, kl=KLPenalty(reference_decay=0.7))
    other.on_load_checkpoint(torch.load(tmp_path / "x.ckpt", weights_only=True))
    assert torch.equal(found, torch.cat([p.flatten() for p in other.reference.model.parameters()]))


def test_a_frozen_reference_is_the_start_policy_and_in_no_checkpoint(start, tmp_path):
    module = build(start, beta=0.1)
    fit(module, tmp_path).save_checkpoint(tmp_path / "x.ckpt")
    assert torch.equal(torch.cat([p.flatten() for p in module.reference.model.parameters()]), start_weights(start))
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert checkpoint["policy"]["reference"] == {}
    assert not any("reference" in name for name in checkpoint["state_dict"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Clip(0.0), "low"), (lambda: Clip(high=-0.1), "high"), (lambda: Clip(dual=1.1), "dual"),
        (lambda: KLPenalty(reference_decay=1.5), "reference_decay"), (lambda: KLPenalty("k1"), "exact_gradient"),
        (lambda: KLPenalty(place="reward", exact_gradient=True), "no gradient"),
        (lambda: KLPenalty(weight=-1.0), "weight"),
        (lambda: GRPOModule("start", OutcomeReward(), kl=KLPenalty(target=0.1)), "target"),
        (lambda: GRPOModule("start", OutcomeReward(), group=GroupSettings(verify_workers=-1)), "verify_workers"),
        (lambda: UpdateSettings(minibatches=0), "minibatches"),
        (lambda: GroupSettings(1, resample=1), "resample"),
        (lambda: DrGRPOModule("start", OutcomeReward(), std_correction=1), "std_correction"),
        (lambda: GRPOModule("start", OutcomeReward(), group=GroupSettings(4), std_correction=4), "below group.size=4"),
        (lambda: KLPenalty(target=0.1, gain=6.0), "between 0 and 5"), (lambda: KLPenalty(target=0.0), "target"),
        (lambda: KLPenalty(target=0.1, bounds=(2.0, 1.0)), "bounds"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_made_from_a_config(variant):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PolicyModule, "model")
    config = {
        "class_path": f"lightning_modules.{variant.__name__}",
        "init_args": {
            "init_from": "start", "reward": {"class_path": "lightning_modules.rewards.ProcessReward"},
            "clip": {"high": 0.28, "dual": 3.0}, "group": {"size": 6, "resample": 3},
            "kl": {"weight": 0.1, "estimator": "k1", "place": "reward", "target": 0.05},
        },
    }  # fmt: skip
    module = parser.instantiate_classes(parser.parse_object({"model": config})).model
    assert type(module) is variant
    assert module.kl == KLPenalty("k1", "reward", target=0.05, weight=0.1)
    assert (module.clip, module.group) == (Clip(0.2, 0.28, 3.0), GroupSettings(6, resample=3))


def test_responses_judged_in_a_pool_get_the_reports_of_this_process(synthesis):
    examples = [synthesis.example("train", i) for i in range(12)]
    jobs = [(e.graph, [e.response, e.response.replace("= ", "= 1", 1), "Define", e.response]) for e in examples]
    pool = Verifier(workers=2)
    found = pool(jobs)
    pool.close()
    assert [[r.to_dict() for r in group] for group in found] == [[r.to_dict() for r in group] for group in Verifier()(jobs)]
    assert all(group[0].answer_correct and not group[2].answer_correct for group in found)


def test_the_pool_ends_with_the_run(start, tmp_path):
    module = build(start, verify_workers=1)
    fit(module, tmp_path, max_steps=1)
    assert module.collector.verifier.pool is None
