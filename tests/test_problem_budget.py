"""Budgets in problems: as many updates as the problems' tokens fill."""

from types import SimpleNamespace

import pytest

from callbacks import TokenBudget
from datamodules import PretrainDataModule
from datamodules.problems.mixture import Component


def test_a_budget_in_problems_is_the_tokens_that_they_have():
    data = PretrainDataModule([Component("2-4", ["garden"])], "garden", row_length=256, batch_rows=2)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(max_steps=-1))
    trainer = SimpleNamespace(
        datamodule=data, world_size=2, accumulate_grad_batches=1, fast_dev_run=False, max_steps=-1, fit_loop=loop
    )
    TokenBudget(max_problems=1000, batch_tokens=2048).setup(trainer, None, "fit")
    texts = [data.synthesis.example("train", i) for i in range(128)]
    tokens = [len(data.tokenizer(text.prompt + text.response)["input_ids"]) + 1 for text in texts]
    assert trainer.accumulate_grad_batches == 2
    assert loop.epoch_loop.max_steps == int(1000 * sum(tokens) / len(tokens) // 2048) > 1


def test_two_budgets_of_one_run_are_refused():
    with pytest.raises(ValueError, match="two budgets of one run"):
        TokenBudget(max_tokens=1e6, max_problems=1e4)
