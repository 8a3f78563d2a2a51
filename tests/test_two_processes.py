"""DDP and FSDP2 on two processes (gloo): the steps of one process on the same global batch; checkpoints that fit each other."""

import json
import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from processes import run

from callbacks import (
    Checkpoint,
    GradientNorm,
    HuggingFaceExport,
    MixtureRecord,
    RandomState,
    SampleWriter,
    Throughput,
    VerifiedPassAtK,
)
from callbacks.records.resume import ResumeContract
from datamodules import MidtrainDataModule, PretrainDataModule
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut
from lightning_modules import MidtrainModule, PretrainModule
from lightning_modules.models.language_model import load_language_model
from lightning_modules.optimizers import AdamW, Muon
from lightning_modules.rollout import SamplingParams
from lightning_modules.stage import Evaluation
from tests_support import PLAIN, TINY

ROOT = Path(__file__).parent.parent
UPDATES, HALFWAY = 6, 3
HELD_OUT = HeldOut({"ID": "2-3"}, ["garden"], validation_problems=3)
STRATEGIES = {
    "one": lambda: "auto", "ddp": lambda: DDPStrategy(), "sharded": lambda: ModelParallelStrategy(2, 1),
    "full": lambda: ModelParallelStrategy(2, 1, save_distributed_checkpoint=False),
}  # fmt: skip


class Watch(Callback):
    """Write what was logged, process by process."""

    def __init__(self, path: Path) -> None:
        self.path, self.steps = path, []

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step > len(self.steps) + self.first:
            keys = ("train/loss", "train/gradient_norm", "train/tokens")
            self.steps.append([trainer.callback_metrics[key].item() for key in keys])

    def on_train_start(self, trainer, pl_module):
        self.first = trainer.global_step

    def on_train_end(self, trainer, pl_module):
        val = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("val/") and "seconds" not in k}
        self.path.mkdir(parents=True, exist_ok=True)
        kept = {"steps": self.steps, "val": val, "weights": pl_module.identity()["weights"]}
        (self.path / f"rank{trainer.global_rank}.json").write_text(json.dumps(kept))


def train(folder: Path, *, kind="one", rows=4, accumulate=1, resume=None, muon=False, compile=False, start=None) -> None:
    """Six updates of four rows each; with weights to start from, of mid-training, which replays a quarter."""
    seed_everything(0, verbose=False)
    replay = {"replay": [Component("2-3", ["garden"])], "replay_share": 0.25} if start else {}
    data = (MidtrainDataModule if start else PretrainDataModule)(
        [Component("2-4", ["garden"])], "garden", **replay, row_length=128, graph=PLAIN, batch_rows=rows, loss_on="solution",
        held_out=HELD_OUT, validation_batches=16 // (rows * (1 if kind == "one" else 2)),
    )  # fmt: skip
    module = (MidtrainModule if start else PretrainModule)(
        start or TINY, optimizer=Muon(lr=0.01) if muon else AdamW(lr=1e-2), z_loss=1e-3, compile=compile,
        evaluation=Evaluation(samples=2, sampling=SamplingParams(max_new_tokens=6)),
    )  # fmt: skip
    keep = Checkpoint(dirpath=folder / "checkpoints", every_n_train_steps=HALFWAY, save_top_k=-1, filename="{step}")
    sizes = {"data": {"init_args": {"batch_rows": rows}}, "trainer": {"accumulate_grad_batches": accumulate}}
    watch = [
        keep,
        ResumeContract(sizes),
        Watch(folder),
        RandomState(),
        Throughput(),
        GradientNorm(),
        HuggingFaceExport(),
        MixtureRecord(),
    ]
    trainer = Trainer(
        max_steps=UPDATES, accelerator="cpu", devices=1 if kind == "one" else 2, strategy=STRATEGIES[kind](), logger=False,
        accumulate_grad_batches=accumulate, gradient_clip_val=0.5, callbacks=watch,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        log_every_n_steps=1, val_check_interval=UPDATES * accumulate, check_val_every_n_epoch=None,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)


def found(folder: Path, rank: int = 0) -> dict:
    return json.loads((folder / f"rank{rank}.json").read_text())


def exported(folder: Path) -> list[torch.Tensor]:
    return list(load_language_model(str(folder / "huggingface")).parameters())


def fit(folder: Path, kind: str = "one", **settings) -> Path:
    """Train in processes of their own: one, or two that see two rows of four each."""
    world = 1 if kind == "one" else 2
    rows = settings.pop("rows", 4 // world)
    assert run(_train, folder, kind, rows, settings, world=world) == [0] * world
    return folder


def _train(folder: Path, kind: str, rows: int, settings: dict) -> None:
    train(folder, kind=kind, rows=rows, **settings)


def assert_same_steps(one: Path, other: Path, *, first: int = 0, tolerance: float = 2e-5) -> None:
    steps, others = found(one)["steps"][first:], found(other)["steps"]
    assert len(steps) == len(others) == UPDATES - first
    assert torch.allclose(torch.tensor(steps), torch.tensor(others), rtol=tolerance, atol=0)
    drawn, others_drawn = (json.loads((folder / "mixture.json").read_text()) for folder in (one, other))
    assert drawn == others_drawn
    assert drawn["tokens"] == sum(row["tokens"] for row in drawn["cells"]) > 0
    val, other_val = found(one)["val"], found(other)["val"]
    assert val.keys() == other_val.keys() >= {"val/loss", "val/loss/ID", "val/loss/ID/garden", "val/perplexity/result/ID"}
    assert all(val[name] == pytest.approx(other_val[name], rel=1e-4) for name in val)
    # updates are sums in another order; Adam divides by their size, Muon computes in bfloat16
    assert all(torch.allclose(a, b, atol=10 * tolerance) for a, b in zip(exported(one), exported(other), strict=True))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The oracle: one process, whole global batch at once."""
    return fit(tmp_path_factory.mktemp("one") / "run")


def test_accumulated_batches_take_the_steps_of_the_whole_batch(one, tmp_path):
    assert_same_steps(one, fit(tmp_path / "run", rows=1, accumulate=4))


@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_take_the_steps_of_one(one, tmp_path, kind):
    folder = fit(tmp_path / "run", kind)
    assert_same_steps(one, folder)
    assert found(folder, 0) == found(folder, 1)
    whole = b"".join(parameter.detach().numpy().tobytes() for parameter in exported(folder))
    assert found(folder)["weights"] == blake2b(whole, digest_size=8).hexdigest()
    assert not list(folder.rglob("*.part"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["full", "ddp"])
def test_two_processes_that_accumulate_take_the_steps_of_one(one, tmp_path, kind):
    assert_same_steps(one, fit(tmp_path / "run", kind, rows=1, accumulate=2))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_muon_on_two_processes_takes_the_steps_of_one(tmp_path, kind):
    assert_same_steps(fit(tmp_path / "one", muon=True), fit(tmp_path / "two", kind, muon=True), tolerance=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_are_deterministic(tmp_path, kind):
    first, second = fit(tmp_path / "first", kind), fit(tmp_path / "second", kind)
    assert found(first) == found(second)
    assert all(torch.equal(a, b) for a, b in zip(exported(first), exported(second), strict=True))


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "target"),
    [("sharded", "sharded"), ("sharded", "full"), ("full", "sharded"), ("full", "one"), ("ddp", "sharded"), ("one", "full")],
)
def test_a_checkpoint_of_one_strategy_is_resumed_by_another(one, tmp_path, source, target):
    checkpoint = fit(tmp_path / "source", source) / f"checkpoints/step={HALFWAY}.ckpt"
    assert checkpoint.is_dir() == (source == "sharded")
    assert_same_steps(one, fit(tmp_path / "target", target, resume=str(checkpoint)), first=HALFWAY)


@pytest.mark.parametrize(("source", "target"), [("one", "ddp"), ("full", "one")])
def test_a_run_goes_on_with_other_processes_and_accumulated_batches_that_make_the_same_step(one, tmp_path, source, target):
    """Lightning counts batches, of which an update then takes another number."""
    batches = {"one": 2, "ddp": 1, "full": 1}
    checkpoint = fit(tmp_path / "source", source, rows=2, accumulate=batches[source]) / f"checkpoints/step={HALFWAY}.ckpt"
    resumed = fit(tmp_path / "target", target, rows=2, accumulate=batches[target], resume=str(checkpoint))
    assert_same_steps(one, resumed, first=HALFWAY)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "full"])
def test_mid_training_on_two_processes_takes_the_steps_of_one_and_goes_on_with_another_number(start, tmp_path, kind):
    whole, two = fit(tmp_path / "whole", start=start), fit(tmp_path / "two", kind, start=start)
    assert_same_steps(whole, two)
    for source, target in ((two, "one"), (whole, kind)):
        checkpoint = str(source / f"checkpoints/step={HALFWAY}.ckpt")
        assert_same_steps(whole, fit(tmp_path / f"{target} goes on", target, start=start, resume=checkpoint), first=HALFWAY)


@pytest.mark.long
def test_a_stage_starts_from_a_folder_of_shards(tmp_path):
    folder = fit(tmp_path / "run", "sharded")
    model = load_language_model(str(folder / f"checkpoints/step={UPDATES}.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), exported(folder), strict=True))


@pytest.mark.long
def test_compiled_layers_of_a_sharded_model_take_the_same_steps(one, tmp_path):
    assert_same_steps(one, fit(tmp_path / "run", "sharded", compile=True), tolerance=1e-3)


class FailsAlone(Callback):
    """The second of two processes fails."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_rank == 1:
            raise RuntimeError("alone")


def _fail(folder: Path) -> None:
    data = PretrainDataModule([Component("2-4", ["garden"])], "garden", row_length=128, graph=PLAIN, batch_rows=2)
    saves = Checkpoint(dirpath=folder, save_on_exception=True)
    trainer = Trainer(
        max_steps=4, accelerator="cpu", devices=2, strategy="ddp", logger=False, callbacks=[saves, FailsAlone()],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(PretrainModule(TINY), data)


def test_a_process_that_fails_does_not_wait_for_others_to_save(tmp_path):
    assert all(run(_fail, tmp_path, world=2, patience=30, timeout=120))


@pytest.mark.parametrize(("variable", "rank", "first"), [("RANK", 0, True), ("RANK", 1, False), ("SLURM_PROCID", 3, False)])
def test_the_first_process_knows_itself_before_there_is_a_group(tmp_path, variable, rank, first):
    code = "from recipes.rejection.rejection_sampling import is_first; print(is_first())"
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {variable: str(rank)}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(first)]


def _evaluate(folder: Path, kind: str, start: str) -> None:
    """Five problems, three samples each: two processes do not get equally many."""
    held_out = HeldOut({"ID": "2-3"}, ["garden"], problems=5, batch_size=2)
    data = PretrainDataModule([Component("2-4", ["garden"])], "garden", row_length=128, graph=PLAIN, held_out=held_out)
    module = MidtrainModule(start, evaluation=Evaluation(samples=3, sampling=SamplingParams(max_new_tokens=8)))
    trainer = Trainer(
        accelerator="cpu", devices=1 if kind == "one" else 2, strategy=STRATEGIES[kind](), logger=False,
        callbacks=[SampleWriter(), VerifiedPassAtK(resamples=0)], enable_progress_bar=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.test(module, data, verbose=False)


def evaluated(folder: Path) -> tuple[list[tuple], dict, dict]:
    rows = [json.loads(line) for path in folder.rglob("test*.jsonl") for line in path.read_text().splitlines()]
    results = json.loads(next(folder.rglob("evaluation.json")).read_text())
    drawn = sorted((row["index"], row["sample"], row["response"], row["tokens"], str(row["report"])) for row in rows)
    return drawn, results["grades"], results["likelihood"]["all"]["all"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_evaluate_as_one_and_go_on_for_each_other(start, tmp_path, kind):
    for folder, by in (("one", "one"), ("two", kind)):
        assert run(_evaluate, tmp_path / folder, by, start, world=1 if by == "one" else 2) in ([0], [0, 0])
    (samples, grades, likelihood), other = evaluated(tmp_path / "one"), evaluated(tmp_path / "two")
    assert len(samples) == 5 * 3 and (samples, grades) == other[:2]
    assert likelihood == pytest.approx(other[2], rel=1e-4)
    for folder, by in (("one", kind), ("two", "one")):  # with the first problem alone, as if interrupted
        first = next((tmp_path / folder).rglob("test.jsonl"))
        kept = first.read_bytes().splitlines(keepends=True)[:3]
        for path in (tmp_path / folder).rglob("test*.jsonl"):
            path.write_bytes(b"".join(kept) if path == first else b"")
        assert run(_evaluate, tmp_path / folder, by, start, world=1 if by == "one" else 2) in ([0], [0, 0])
        assert first.read_bytes().splitlines(keepends=True)[:3] == kept
        assert evaluated(tmp_path / folder)[:2] == (samples, grades)
