"""Modules: documents that do not see each other, on-policy rollouts, accumulated gradients, checkpoints."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from datamodules import PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut
from lightning_modules import GRPOModule, PretrainModule
from lightning_modules.models.language_model import build_language_model, load_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.rewards import OutcomeReward, Reward
from lightning_modules.rollout import SamplingParams
from lightning_modules.stage import Evaluation
from tests_support import PLAIN, TINY, grouped

MIXTURE = [Component("2-3", ["garden"])]
SHORT = Evaluation(samples=2, sampling=SamplingParams(max_new_tokens=8))


class LengthReward(Reward):
    """Longer is better: varies within every group, so that there is something to learn."""

    def __call__(self, response, report):
        return {"length": float(len(response))}


def trainer(folder, **settings):
    return Trainer(
        **{
            "max_steps": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": folder, "num_sanity_val_steps": 0, "limit_val_batches": 0,
            **settings,
        }
    )  # fmt: skip


def test_pretraining_lowers_the_loss_and_counts_tokens(tmp_path):
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=4)
    module = PretrainModule(TINY, optimizer=AdamW(lr=1e-2))
    losses = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(outputs["loss"].item())

    trainer(tmp_path, max_steps=15, callbacks=[Watch()]).fit(module, data)
    assert losses[-1] < losses[0] - 1
    assert 15 * 4 * 128 * 0.6 < int(module.tokens_seen) <= 15 * 4 * 128


def grpo(start, **settings):
    return GRPOModule(
        start, settings.pop("reward", LengthReward()), sampling=SamplingParams(max_new_tokens=12),
        optimizer=AdamW(lr=settings.pop("lr", 1e-2), weight_decay=0.0), evaluation=SHORT, **grouped(**settings),
    )  # fmt: skip


def prompt_data():
    return PromptDataModule(MIXTURE, "garden", prompts_per_rollout=4, random_letters=False)


class Ratios(Callback):
    def __init__(self):
        self.ratios = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.ratios.append(trainer.callback_metrics["train/ratio"].item())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_first_ratio_of_a_rollout_is_exactly_one(start, tmp_path, accumulate):
    watch = Ratios()
    module = grpo(start, minibatches=accumulate)
    trainer(tmp_path, max_steps=3, accumulate_grad_batches=accumulate, callbacks=[watch]).fit(module, prompt_data())
    assert watch.ratios == [1.0] * (3 * accumulate)


def test_later_epochs_leave_the_sampling_policy(start, tmp_path):
    watch = Ratios()
    trainer(tmp_path, max_steps=4, callbacks=[watch]).fit(grpo(start, epochs=2), prompt_data())
    assert watch.ratios[0] == watch.ratios[2] == 1.0
    assert 1.0 not in (watch.ratios[1], watch.ratios[3])


def test_grpo_raises_its_reward(start, tmp_path):
    torch.manual_seed(0)
    module, rewards = grpo(start, lr=3e-3), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            rewards.append(trainer.callback_metrics["train/reward"].item())

    trainer(tmp_path, max_steps=30, callbacks=[Watch()]).fit(module, prompt_data())
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 2


def test_equal_rewards_leave_the_policy_alone(start, tmp_path):
    module = grpo(start, reward=OutcomeReward())  # random weights solve nothing
    trainer(tmp_path, max_steps=2).fit(module, prompt_data())
    before = load_language_model(start)
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), module.language_model.parameters(), strict=True))


def test_the_penalty_is_zero_at_the_reference(start, tmp_path):
    module = grpo(start, beta=0.1)
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, prompt_data())
    assert run.callback_metrics["train/kl_nats"].item() == 0.0
    assert not any("reference" in name for name in module.state_dict())


def test_a_checkpoint_starts_the_next_stage(tmp_path):
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2)
    module = PretrainModule(TINY)
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, data)
    run.save_checkpoint(tmp_path / "x.ckpt")
    loaded = load_language_model(str(tmp_path / "x.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip(module.language_model.parameters(), loaded.parameters(), strict=True))


def test_the_same_weights_and_seed_give_the_same_samples(start, tmp_path):
    held_out = HeldOut({"ID": "2-3"}, ["garden"], problems=6, batch_size=4)
    seen = []

    class Watch(Callback):
        def on_test_batch_end(self, trainer, pl_module, outputs, *args):
            seen.append(outputs["rollout"].responses)

    for _ in range(2):
        data = PromptDataModule(MIXTURE, "garden", random_letters=False, held_out=held_out)
        trainer(tmp_path, callbacks=[Watch()]).test(grpo(start), data, verbose=False)
    assert seen[:2] == seen[2:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_sise": 32}, "hidden_sise"), ({"model_type": "qwen9"}, "qwen9"),
        ({"num_attention_heads": 5}, "multiple"), ({"model_type": None}, "model_type"),
    ],
)  # fmt: skip
def test_a_wrong_architecture_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build_language_model(TINY | change)
