"""Budgets in tokens, accumulation that follows from them, schedules at their ends."""

import math
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from callbacks import TokenBudget
from callbacks.steering.token_budget import accumulation
from datamodules import PretrainDataModule
from datamodules.problems.mixture import Component
from lightning_modules import PretrainModule
from lightning_modules.optimizers import AdamW, Muon
from lightning_modules.schedules import WSD, Constant, Cosine
from tests_support import PLAIN, TINY

ROW, ROWS = 128, 2


class Rates(Callback):
    def __init__(self):
        self.rates, self.batches = [], 0

    def on_train_batch_end(self, trainer, *args):
        self.batches += 1

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def train(folder, budget, *, schedule=None, optimizer=None, **settings):
    data = PretrainDataModule([Component("2-3", ["garden"])], "garden", row_length=ROW, graph=PLAIN, batch_rows=ROWS)
    rates = Rates()
    torch.manual_seed(0)
    module = PretrainModule(TINY, optimizer=optimizer or AdamW(lr=1.0), schedule=schedule or Constant())
    trainer = Trainer(
        **{
            "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0, "max_epochs": 1,
            "callbacks": [budget, rates], **settings,
        }
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, module, rates


def test_a_budget_in_tokens_becomes_updates_and_accumulation(tmp_path):
    trainer, _, rates = train(tmp_path, TokenBudget(max_tokens=10 * ROW * ROWS, batch_tokens=3 * ROW * ROWS))
    assert (trainer.global_step, trainer.accumulate_grad_batches, rates.batches) == (3, 3, 9)  # 10 batches: rounded down


def test_the_paper_takes_19073_updates():
    limits = SimpleNamespace(max_steps=-1)
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(row_length=2048, batch_rows=32), world_size=1, fast_dev_run=False, accumulate_grad_batches=1,
        max_steps=-1, fit_loop=SimpleNamespace(epoch_loop=limits),
    )  # fmt: skip
    TokenBudget(max_tokens=10e9, batch_tokens=524_288).setup(trainer, None, "fit")
    assert (trainer.accumulate_grad_batches, limits.max_steps) == (8, 19_073)


@pytest.mark.parametrize(("limit", "steps"), [(2, 2), (100, 5)])
def test_the_smaller_of_budget_and_max_steps_holds(tmp_path, limit, steps):
    assert train(tmp_path, TokenBudget(max_tokens=5 * ROW * ROWS), max_steps=limit)[0].global_step == steps


def test_a_budget_below_one_update_takes_one(tmp_path):
    trainer, _, rates = train(tmp_path, TokenBudget(max_tokens=7), schedule=Cosine(warmup=0.15, floor=0.1))
    assert trainer.global_step == 1
    assert 0 < rates.rates[0] <= 1


@pytest.mark.parametrize(
    ("tokens", "wanted", "message"),
    [(1000, 1, "not a multiple"), (128, 1, "not a multiple"), (1024, 3, "accumulate_grad_batches says 3")],
)
def test_accumulation_that_cannot_be_is_refused(tokens, wanted, message):
    with pytest.raises(ValueError, match=message):
        accumulation(tokens, 256, wanted)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="max_tokens=0"):
        TokenBudget(max_tokens=0)


@pytest.mark.parametrize("schedule", [Constant(), Cosine(warmup=0.15, floor=0.1), Cosine(), WSD(warmup=0.0, decay=1.0)])
@pytest.mark.parametrize("optimizer", [AdamW(lr=1e-3), Muon()])
def test_training_that_ends_within_an_accumulation_is_safe(tmp_path, schedule, optimizer):
    """Five batches, three an update: the second update has two."""
    trainer, module, rates = train(
        tmp_path, TokenBudget(), schedule=schedule, optimizer=optimizer, max_steps=4, accumulate_grad_batches=3,
        limit_train_batches=5,
    )  # fmt: skip
    assert trainer.global_step == 2
    assert all(rate >= 0 for rate in rates.rates) and rates.rates[0] > 0
    assert all(p.isfinite().all() for p in module.parameters())


def test_schedules_per_budget_end_with_the_run_and_shared_ones_do_not():
    per_budget, shared = Cosine(warmup=0.1, floor=0.3), Cosine(warmup=0.1, floor=0.3, shared_steps=1000)
    assert per_budget(100, 100) == pytest.approx(0.3)
    for step in (0, 50, 100):  # the same whatever the run's length, and still within the warm-up
        assert shared(step, 100) == shared(step, 200) == shared(step, 1000)
    assert shared(50, 100) == pytest.approx(51 / 101)
    assert shared(2000, 2000) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="shared_steps=0"):
        Cosine(shared_steps=0)


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        (Cosine(floor=0.2), 25, 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2),
        (Cosine(warmup=0.1), 55, 0.5),  # half of what follows the warm-up
        (WSD(decay=0.5, warmup=0.0), 75, 0.5),
        (WSD(decay=0.2, warmup=0.5), 95, 0.5),
        (WSD(decay=0.5, warmup=0.0), 49, 1.0),
        (Constant(floor=0.3), 99, 1.0),
    ],
)
def test_a_schedule_in_its_midst(schedule, step, factor):
    """Cosine: arXiv:1608.03983, eq. 5; WSD: arXiv:2404.06395, eq. 1 with a linear decay."""
    assert schedule(step, 100) == pytest.approx(factor)


def test_validation_comes_after_so_many_updates_whatever_they_are_made_of(tmp_path):
    steps = []

    class Validations(Callback):
        def on_validation_start(self, trainer, pl_module):
            steps.append(trainer.global_step)

    data = PretrainDataModule([Component("2-3", ["garden"])], "garden", row_length=ROW, graph=PLAIN, batch_rows=ROWS)
    Trainer(
        max_steps=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=1,
        enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
        callbacks=[TokenBudget(batch_tokens=3 * ROW * ROWS, validate_every=2), Validations()],
    ).fit(PretrainModule(TINY), data)  # fmt: skip
    assert steps == [2, 4, 6]
