"""Data modules read from Python, without a Trainer: the same batches as under one."""

from itertools import islice

import pytest
import torch
from lightning import Trainer

from datamodules import MidtrainDataModule, PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut

EASY = [Component("2-4", ["garden"])]
HELD_OUT = HeldOut({"ID": "2-4"}, ["garden"], problems=5, validation_problems=3)
ROWS = {"row_length": 256, "batch_rows": 2, "validation_batches": 2}


@pytest.mark.parametrize("kind", [PretrainDataModule, MidtrainDataModule])
def test_packed_rows_are_those_that_a_trainer_would_get(kind):
    def made():
        return kind(EASY, "garden", held_out=HELD_OUT, **ROWS)

    alone, attached = made(), made()
    attached.trainer = Trainer(accelerator="cpu", devices=1, max_steps=3, logger=False, enable_checkpointing=False)
    expected = list(attached.train_dataloader())
    assert len(expected) == 3
    for found, wanted in zip(islice(alone.train_dataloader(), 3), expected, strict=True):
        assert torch.equal(found.tokens_BT, wanted.tokens_BT)
    packed, gold, problems = alone.val_dataloader()
    assert [len(list(packed)), len(list(gold)) > 0] == [2, True]
    assert [len(batch.examples) for batch in problems] == [3]
    assert [len(batch.examples) for batch in alone.test_dataloader()] == [5]


def test_prompts_come_alone_and_experience_says_what_it_needs():
    data = PromptDataModule(EASY, "garden", prompts_per_rollout=4, held_out=HELD_OUT)
    assert len(data.prompts(0).examples) == 4
    assert [e.problem for e in data.prompts(0).examples] != [e.problem for e in data.prompts(4).examples]
    assert [len(batch.examples) for batch in data.test_dataloader()] == [5]
    with pytest.raises(ValueError, match=r"trainer\.fit\(module, datamodule=\.\.\.\)"):
        data.train_dataloader()
