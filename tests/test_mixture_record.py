"""A run's folder proves what it was trained on."""

import csv
import json

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from callbacks import Checkpoint, MetricsCSV, MixtureRecord
from datamodules import PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from lightning_modules import PretrainModule
from tests_support import PLAIN, TINY

MIXTURE = [Component("2", ["garden"], weight=0.75), Component("3-4", ["garden"], weight=0.25)]

SHIFTED = [Component("2", ["garden"], weight=0.05), Component("3-4", ["garden"], weight=0.95)]


class Seen(Callback):
    """Oracle: counts documents and tokens of the batches that training saw."""

    def __init__(self):
        self.documents = self.tokens = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.documents += int(batch.document_BT.amax(dim=1).sum())
        self.tokens += int((batch.document_BT > 0).sum())


def fit(folder, updates, *, mixture=MIXTURE, resume=None, **settings):
    data = PretrainDataModule(mixture, "garden", row_length=128, graph=PLAIN, batch_rows=4, **settings)
    seen, keep = Seen(), Checkpoint(dirpath=folder / "checkpoints", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    trainer = Trainer(
        max_steps=updates, accumulate_grad_batches=2, logger=MetricsCSV(folder), callbacks=[MixtureRecord(), seen, keep],
        default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        accelerator="cpu", limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(PretrainModule(TINY), data, ckpt_path=resume)
    return json.loads((folder / "mixture.json").read_text()), seen


def test_the_record_counts_what_training_saw_and_stands_beside_what_was_intended(tmp_path):
    record, seen = fit(tmp_path, 6)
    assert (record["documents"], record["tokens"]) == (seen.documents, seen.tokens)
    cells = {cell["op"]: cell for cell in record["cells"]}
    assert [cells[op]["intended"] for op in (2, 3, 4)] == [0.75, 0.125, 0.125]
    shares = [cells[op]["documents"] / seen.documents for op in (2, 3, 4)]
    assert [cells[op]["share_of_examples"] for op in (2, 3, 4)] == shares
    assert sum(cell["share_of_tokens"] for cell in record["cells"]) == pytest.approx(1)
    distance = sum(abs(a - b) for a, b in zip(shares, (0.75, 0.125, 0.125), strict=True)) / 2
    assert record["distance"] == pytest.approx(distance) and distance < 0.15
    with (tmp_path / "metrics.csv").open() as file:
        logged = [float(row["train/mixture_distance"]) for row in csv.DictReader(file)]
    assert logged[-1] == pytest.approx(distance, rel=1e-6)


def test_a_resumed_run_has_the_record_of_the_whole_run(tmp_path):
    whole, _ = fit(tmp_path / "whole", 4)
    fit(tmp_path / "stopped", 4)
    record, seen = fit(tmp_path / "resumed", 4, resume=tmp_path / "stopped/checkpoints/step=2.ckpt")
    assert record == whole
    assert seen.documents < record["documents"]


@pytest.mark.parametrize(
    "other",
    [{"mixture": [Component("2-3", ["garden"])]}, {"mixture": SHIFTED}, {"share_of": "tokens"}],
    ids=["cells", "weights", "of"],
)
def test_another_mixture_is_not_resumed(tmp_path, other):
    fit(tmp_path, 1)
    with pytest.raises(ValueError, match="another mixture"):
        fit(tmp_path, 2, resume=tmp_path / "checkpoints/step=1.ckpt", **other)


def test_shares_of_tokens_are_compared_with_tokens(tmp_path):
    record, _ = fit(tmp_path, 6, share_of="tokens")
    shares = [cell["share_of_tokens"] for cell in record["cells"]]
    distance = sum(abs(share - cell["intended"]) for share, cell in zip(shares, record["cells"], strict=True)) / 2
    assert record["distance"] == pytest.approx(distance) and distance < 0.15


def test_prompts_are_counted_as_examples_whatever_shares_are_of():
    """Half of the tokens of whole documents: more than half of the examples are short ones."""
    halves = [Component("2", ["garden"], weight=0.5), Component("9", ["garden"], weight=0.5)]
    data = PromptDataModule(halves, "garden", share_of="tokens", graph=PLAIN, prompts_per_rollout=500)
    data.trainer = type("Trainer", (), {"world_size": 1, "global_rank": 0})
    data.prompts(0)
    report = data.drawn.report(data.drawn.take())
    assert report["cells"][0]["intended"] > 0.7
    assert report["distance"] < 0.05


def test_prompts_of_rollouts_are_counted():
    data = PromptDataModule(MIXTURE, "garden", graph=PLAIN, prompts_per_rollout=40)
    data.trainer = type("Trainer", (), {"world_size": 1, "global_rank": 0})
    batch = data.prompts(0)
    report = data.drawn.report(data.drawn.take())
    ops = [example.cell.op for example in batch.examples]
    assert [cell["documents"] for cell in report["cells"]] == [ops.count(op) for op in (2, 3, 4)]
    assert report["tokens"] == sum(map(len, batch.prompt_ids))
    assert torch.equal(data.drawn.counts, torch.zeros(4, 2, dtype=torch.int64))
