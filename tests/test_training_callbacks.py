"""Callbacks of training: rates, norms, memory, losses that are no numbers, exports and logs."""

import csv
import json
from time import sleep

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import SimpleProfiler

import callbacks.monitors.throughput as rates
from callbacks import (
    Checkpoint,
    GradientNorm,
    HuggingFaceExport,
    Memory,
    MetricsCSV,
    NonFiniteLoss,
    RandomState,
    RewindLogs,
    Throughput,
)
from callbacks.records.checkpoint import whole_checkpoints
from callbacks.records.run_record import environment
from datamodules import PretrainDataModule
from datamodules.problems.mixture import Component
from datamodules.rows.packed_rows import PackedRows
from lightning_modules import PretrainModule
from lightning_modules.models.language_model import load_language_model
from lightning_modules.optimizers import AdamW
from tests_support import PLAIN, TINY


def train(folder, *watch, module=None, data=None, ckpt_path=None, **settings):
    torch.manual_seed(0)
    data = data or PretrainDataModule([Component("2-3", ["garden"])], "garden", row_length=128, graph=PLAIN, batch_rows=2)
    module = module or PretrainModule(TINY, optimizer=AdamW(lr=1e-3))
    trainer = Trainer(
        **{
            "max_steps": 4, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0, "log_every_n_steps": 2,
            "callbacks": list(watch), **settings,
        }
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer, module


class SlowRows(PackedRows):
    def __iter__(self):
        for batch in super().__iter__():
            sleep(0.05)
            yield batch


class SlowData(PretrainDataModule):
    def train_dataloader(self):
        loader = super().train_dataloader()
        loader.__class__ = SlowRows
        return loader


class SlowModule(PretrainModule):
    def training_step(self, batch, batch_idx):
        sleep(0.05)
        return super().training_step(batch, batch_idx)


def test_throughput_counts_tokens_updates_waits_and_flops(tmp_path, monkeypatch):
    """Oracle: a clock that only sleeps move, so every rate is known."""
    now = [0.0]
    monkeypatch.setattr(rates, "perf_counter", lambda: now[0])
    monkeypatch.setitem(globals(), "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    data = SlowData([Component("2-3", ["garden"])], "garden", row_length=128, graph=PLAIN, batch_rows=2)
    counts = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, *args):
            counts.append((int(outputs["tokens"]), float(outputs["flops"])))

    trainer, _ = train(
        tmp_path, Throughput(peak_flops=1e9), Watch(), data=data, module=SlowModule(TINY), accumulate_grad_batches=2
    )
    last = counts[-4:]  # two updates of two batches, 0.1 seconds each
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert logged["train/tokens_per_s"] == pytest.approx(sum(t for t, _ in last) / 0.4)
    assert logged["train/step_s"] == pytest.approx(0.2)
    assert logged["train/data_wait"] == pytest.approx(0.5)
    assert logged["train/mfu"] == pytest.approx(sum(f for _, f in last) / 0.4 / 1e9)


def test_a_profiler_of_the_users_own_stays(tmp_path):
    trainer, _ = train(tmp_path, Throughput(), profiler=SimpleProfiler())
    assert isinstance(trainer.profiler, SimpleProfiler)
    assert "train/data_wait" not in trainer.callback_metrics and "train/mfu" not in trainer.callback_metrics


def test_the_peak_of_a_gpu_is_known_by_its_name(monkeypatch):
    device = torch.device("cuda", 0)
    for name, peak in (("NVIDIA H200", 989.4e12), ("NVIDIA A100-SXM4-80GB", 312e12)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *args, name=name: name)
        assert rates.peak_flops(device, "bf16-mixed") == peak
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *args: "NVIDIA H200")
    assert rates.peak_flops(device, "32-true") == 67e12  # as an H100's; TF32 unless float32 products are to be exact
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert rates.peak_flops(device, "32-true") == 494.7e12
    assert rates.peak_flops(torch.device("cpu"), "bf16-mixed") is None


def test_the_gradient_norm_is_that_before_clipping(tmp_path):
    class Oracle(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.norm = sum(p.grad.square().sum() for p in pl_module.language_model.parameters()).sqrt().item()

    oracle = Oracle()
    trainer, _ = train(tmp_path, GradientNorm(), oracle, gradient_clip_val=1e-3)
    assert trainer.callback_metrics["train/gradient_norm"].item() == pytest.approx(oracle.norm, rel=1e-5)
    assert oracle.norm > 0.01


def test_memory_is_that_of_the_process(tmp_path):
    trainer, _ = train(tmp_path, Memory())
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert trainer.callback_metrics["train/memory_gib"].item() == pytest.approx(peak / 2**20, rel=0.2)


class Breaks(PretrainModule):
    """The loss of batch 2 is infinite."""

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        return outputs | {"loss": outputs["loss"] * (float("inf") if batch_idx == 2 else 1.0)}


def test_a_loss_that_is_no_number_stops_training_and_names_its_batch(tmp_path):
    with pytest.raises(FloatingPointError, match="loss of batch 2 is inf"):
        train(tmp_path, NonFiniteLoss(), module=Breaks(TINY))
    report = json.loads((tmp_path / "non_finite.rank0.json").read_text())
    assert report["batches"][0] == {"batch_idx": 2, "updates_done": 3, "loss": "inf"}
    assert report["batches"][1]["batch_idx"] == 3  # the update it led to broke the weights


def test_no_checkpoint_is_saved_after_a_loss_that_is_no_number(tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "checkpoints", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(FloatingPointError):
        train(tmp_path, NonFiniteLoss(), keep, module=Breaks(TINY), log_every_n_steps=50, enable_checkpointing=True)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt"]


def test_the_model_is_exported_at_checkpoints_when_asked(tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "checkpoints", every_n_train_steps=2, save_top_k=-1, save_last=True)
    train(tmp_path, HuggingFaceExport(at_checkpoints=True), keep, enable_checkpointing=True)
    for step in (2, 4):
        exported = load_language_model(str(tmp_path / f"huggingface-step{step}")).state_dict()
        kept = torch.load(tmp_path / f"checkpoints/epoch=0-step={step}.ckpt", weights_only=True)["state_dict"]
        assert all(torch.equal(kept["language_model." + name], weight) for name, weight in exported.items())
    assert (tmp_path / "huggingface/tokenizer.json").is_file()


def test_half_a_checkpoint_is_not_found(tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "checkpoints", every_n_train_steps=2, save_last=True)
    trainer, _ = train(tmp_path, keep, enable_checkpointing=True)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"epoch=0-step=4.ckpt", "last.ckpt"}
    (tmp_path / "checkpoints/epoch=0-step=6.ckpt.part").write_text("half")
    assert {path.name for path in whole_checkpoints(tmp_path / "checkpoints")} == names
    assert keep._find_last_checkpoints(trainer) == {str(tmp_path / "checkpoints/last.ckpt")}


@pytest.mark.parametrize("settings", [{"every_n_train_steps": 2}, {"every_n_train_steps": 7}, {}])
def test_the_last_checkpoint_is_of_the_last_update_whatever_the_interval(tmp_path, settings):
    class WhenTrainingEnds(Callback):
        """What records that training has ended must find its checkpoint on disk, or a crash in between could not be resumed."""

        def on_train_end(self, trainer, pl_module):
            self.step = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"]

    keep, watch = Checkpoint(dirpath=tmp_path / "checkpoints", save_last=True, **settings), WhenTrainingEnds()
    _, module = train(tmp_path, keep, watch, enable_checkpointing=True, max_steps=5, limit_val_batches=1, val_check_interval=2)
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == watch.step == 5
    assert all(torch.equal(weight, module.state_dict()[name]) for name, weight in last["state_dict"].items())


def test_random_numbers_after_a_resumption_are_those_that_would_have_come(tmp_path):
    import random

    import numpy

    class Draws(Callback):
        def __init__(self):
            self.drawn = []

        def on_train_batch_start(self, *args):
            self.drawn.append((random.random(), numpy.random.rand(), torch.rand(()).item()))

    def run(folder, **settings):
        draws = Draws()
        keep = Checkpoint(dirpath=folder, every_n_train_steps=2, save_top_k=-1)
        train(folder, draws, RandomState(), keep, enable_checkpointing=True, **settings)
        return draws.drawn

    whole = run(tmp_path / "a")
    random.seed(5), numpy.random.seed(5)
    assert run(tmp_path / "b", ckpt_path=tmp_path / "a/epoch=0-step=2.ckpt") == whole[2:]


def test_the_metrics_file_is_rewound_and_goes_on(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in range(5):
        logger.log_metrics({"loss": step / 2}, step=step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.1,")  # a killed process left half a line
    logger = MetricsCSV(tmp_path)
    logger.rewind(3)
    logger.log_metrics({"loss": 7.0, "val": 1.0}, step=3)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row["val"]) for row in rows] == [
        ("0", "0.0", ""), ("1", "0.5", ""), ("2", "1.0", ""), ("3", "7.0", "1.0"),
    ]  # fmt: skip
    logger.rewind(0)
    assert not (tmp_path / "metrics.csv").exists()


def test_a_fresh_run_in_an_old_folder_logs_afresh(tmp_path):
    for _ in range(2):
        train(tmp_path, RewindLogs(), logger=MetricsCSV(tmp_path), log_every_n_steps=1)
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("kept", "rows"), [({"train/loss": 1.0}, [{"train/loss": 1.0}]), ({}, []), (None, []), ([{"a": 1}], [{"a": 1}])]
)
def test_what_a_checkpoint_was_about_to_log_is_read_from_earlier_versions_too(kept, rows):
    logs = RewindLogs()
    logs.on_load_checkpoint(None, None, {} if kept is None else {"pending_log": kept})
    assert logs.pending == rows


def test_a_record_names_the_processor_and_what_is_used_of_it():
    cpu = environment()["cpu"]
    assert cpu["name"] and cpu["cores"] >= 1
    assert cpu["capability"] == torch.backends.cpu.get_cpu_capability()


class LosesGradient(PretrainModule):
    """The loss of batch 2 is finite, its gradient is not: the derivative of a root at 0."""

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        weight = self.language_model.get_input_embeddings().weight
        if batch_idx != 2:
            return outputs
        return outputs | {"loss": outputs["loss"] + (weight - weight.detach()).abs().sum().sqrt()}


def test_a_gradient_that_is_no_number_leaves_no_checkpoint_of_what_it_made(tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "kept", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(FloatingPointError, match="weights are not after update 3: a gradient was not"):
        train(tmp_path, NonFiniteLoss(), keep, module=LosesGradient(TINY), log_every_n_steps=50, enable_checkpointing=True)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt"]
