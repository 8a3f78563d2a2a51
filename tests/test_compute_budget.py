"""Runs that end by what they have cost."""

import json

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from callbacks import Checkpoint, ComputeBudget, ComputeLedger
from callbacks.steering.compute_budget import spent
from datamodules import PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from lightning_modules import GRPOModule, PretrainModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.rewards import OutcomeReward
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, TINY


class Count(Callback):
    """Tokens of the updates so far, one by one."""

    def __init__(self):
        self.tokens = []

    def on_train_batch_end(self, trainer, pl_module, outputs, *args):
        self.tokens.append(int(outputs["tokens"]) + (self.tokens or [0])[-1])


def train(folder, *watch, module=None, data=None, resume=None, **settings):
    torch.manual_seed(0)
    data = data or PretrainDataModule([Component("2-3", ["garden"])], "garden", row_length=128, graph=PLAIN, batch_rows=2)
    trainer = Trainer(
        **{
            "max_steps": 8, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0, "log_every_n_steps": 1,
            "callbacks": list(watch), **settings,
        }
    )  # fmt: skip
    trainer.fit(module or PretrainModule(TINY, optimizer=AdamW(lr=1e-3)), data, ckpt_path=resume)
    return trainer


def ledger(folder):
    return json.loads((folder / "compute.json").read_text())


def test_a_run_ends_with_the_update_that_spends_its_tokens(tmp_path):
    whole = Count()
    train(tmp_path, whole)
    for limit in (whole.tokens[3], whole.tokens[3] + 1):
        count = Count()
        trainer = train(tmp_path, ComputeBudget(max_tokens=limit), ComputeLedger(), count)
        assert count.tokens == [n for n in whole.tokens if n < limit] + [next(n for n in whole.tokens if n >= limit)]
        assert (
            trainer.callback_metrics["train/compute_tokens"] == count.tokens[-1] == ledger(tmp_path)["phases"]["update"]["tokens"]
        )


def test_flops_and_nominal_tokens_are_budgets_too(tmp_path):
    train(tmp_path, ComputeLedger(), max_steps=5)
    cost = ledger(tmp_path)
    for limits in ({"max_flops": cost["flops"]}, {"max_nominal_tokens": cost["nominal_tokens"]}, {"max_tokens": 1e9, **{
        "max_flops": cost["flops"]}}):  # fmt: skip
        assert train(tmp_path, ComputeLedger(), ComputeBudget(**limits)).global_step == 5
        assert ledger(tmp_path) == cost


def test_every_phase_of_reinforcement_learning_counts(tmp_path):
    build_language_model(TINY).save_pretrained(tmp_path / "start")

    def run(*watch, steps):
        module = GRPOModule(
            str(tmp_path / "start"), OutcomeReward(), group=GroupSettings(2), sampling=SamplingParams(max_new_tokens=6)
        )
        data = PromptDataModule([Component("2-3", ["garden"])], "garden", prompts_per_rollout=2, graph=PLAIN)
        return train(tmp_path, *watch, module=module, data=data, max_steps=steps)

    run(ComputeLedger(), steps=3)
    phases = ledger(tmp_path)["phases"]
    assert phases.keys() == {"rollout", "update"}
    budget = sum(phase["tokens"] for phase in phases.values())
    assert run(ComputeBudget(max_tokens=budget), ComputeLedger(), steps=9).global_step == 3


def test_a_resumed_run_counts_from_its_beginning(tmp_path):
    whole = train(tmp_path, ComputeLedger(), max_steps=6)
    budget, steps = ledger(tmp_path)["flops"], whole.global_step
    keep = Checkpoint(dirpath=tmp_path / "kept", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    train(tmp_path, ComputeLedger(), keep, ComputeBudget(max_flops=budget), enable_checkpointing=True, max_steps=4)
    resume = tmp_path / "kept/step=4.ckpt"
    assert train(tmp_path, ComputeLedger(), ComputeBudget(max_flops=budget), resume=resume).global_step == steps
    assert ledger(tmp_path)["flops"] == pytest.approx(budget)


def test_a_run_that_has_spent_its_budget_takes_no_further_step(tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "kept", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    train(tmp_path, ComputeLedger(), keep, max_steps=3, enable_checkpointing=True)
    spent_by_then = ledger(tmp_path)["flops"]
    again = train(tmp_path, ComputeLedger(), ComputeBudget(max_flops=spent_by_then), resume=tmp_path / "kept/step=3.ckpt")
    assert again.global_step == 3


def test_a_run_that_a_budget_ends_is_validated_and_kept(tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "kept", save_last=True, filename="{step}")
    validated = []

    class Watch(Callback):
        def on_validation_end(self, trainer, pl_module):
            validated.append(trainer.global_step)

    trainer = train(
        tmp_path, ComputeLedger(), ComputeBudget(max_tokens=600), keep, Watch(), enable_checkpointing=True, limit_val_batches=1,
        val_check_interval=6, check_val_every_n_epoch=None, num_sanity_val_steps=0,
    )  # fmt: skip
    assert validated == [trainer.global_step] and trainer.global_step < 6
    assert (tmp_path / "kept/last.ckpt").is_file()


def test_accumulated_batches_are_counted_by_the_update(tmp_path):
    count = Count()
    trainer = train(tmp_path, ComputeBudget(max_tokens=1), ComputeLedger(), count, accumulate_grad_batches=3)
    assert (trainer.global_step, len(count.tokens)) == (1, 3)


def test_what_a_run_learns_from_adds_its_sampling_alone(tmp_path):
    train(tmp_path, ComputeLedger(), max_steps=2)
    alone = ledger(tmp_path)
    recorded = {"phases": {"sampling": [10.0, 40.0], "update": [1e9, 1e9]}}
    (tmp_path / "rejection.json").write_text(json.dumps({"compute": recorded}))
    train(tmp_path, ComputeLedger(), max_steps=2)
    found = ledger(tmp_path)
    assert found["phases"].pop("sampling")["tokens"] == 10
    assert found["phases"] == alone["phases"]


def test_unknown_flops_are_left_out():
    found = spent({"phases": {"update": {"tokens": 3, "flops": None}}, "flops": None, "nominal_tokens": 4.0})
    assert found == {"tokens": 3.0, "nominal_tokens": 4.0}


@pytest.mark.parametrize("settings", [{}, {"max_tokens": 0}, {"max_flops": 1.0, "every_n_steps": 0}])
def test_a_budget_of_nothing_is_refused(settings):
    with pytest.raises(ValueError, match="ComputeBudget"):
        ComputeBudget(**settings)


def test_a_budget_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ComputeLedger"):
        train(tmp_path, ComputeBudget(max_tokens=5))
