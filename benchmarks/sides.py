"""One training job done three ways: by this project, by a bare PyTorch loop and by transformers.Trainer.

The same weights, rows, optimiser, schedule and clipping; `benchmarks.train_speed` and `benchmarks.gpu` time them.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from callbacks import GradientNorm, Memory, NonFiniteLoss, RandomState, Throughput
from datamodules import PretrainDataModule
from datamodules.rows.documents import IGNORE, PackedBatch
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules import PretrainModule
from lightning_modules.models.attention import Mask
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.schedules import Cosine


@dataclass
class Job:
    """What is trained. `clock` reads the time once all work is done; `warm` steps come before it starts; `tick` ends a step."""

    architecture: dict[str, Any]
    batches: Sequence[PackedBatch]
    device: str = "cpu"
    precision: str = "32-true"
    warm: int = 1
    clock: Callable[[], float] = time.perf_counter
    settings: dict[str, Any] = field(default_factory=dict)  # of PretrainModule
    tick: Callable[[], None] = lambda: None

    @property
    def timed_tokens(self) -> int:
        """Real tokens of the steps that are timed."""
        return sum(int((batch.document_BT > 0).sum()) for batch in self.batches[self.warm :])


class Timer(Callback):
    """Seconds from the end of the warm-up to the end of training, and the first loss."""

    def __init__(self, job: Job) -> None:
        self.job, self.seconds, self.first_loss = job, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock after the warm-up and at the end."""
        if batch_idx == 0:
            self.first_loss = trainer.callback_metrics["train/loss"].item()
        if batch_idx + 1 == self.job.warm:
            self.started = self.job.clock()
        if batch_idx + 1 == len(self.job.batches):
            self.seconds = self.job.clock() - self.started
        self.job.tick()


class Given(LightningDataModule):
    """The job's batches."""

    evaluates = False

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.batches, self.tokenizer, self.labels, self.bands = job.batches, load_tokenizer("published"), LABELS, {}

    def train_dataloader(self) -> DataLoader:
        """One by one."""
        return DataLoader(self.batches, batch_size=None)


LABELS: dict[str, list[str]] = {"context": [], "mode": []}


def ours(job: Job, data: LightningDataModule | None = None) -> tuple[float, float, Trainer]:
    """Seconds, first loss and the Trainer, with the callbacks that a stage has on."""
    torch.manual_seed(0)
    module = PretrainModule(job.architecture, optimizer=AdamW(lr=1e-4), schedule=Cosine(warmup=0.1, floor=0.1), **job.settings)
    timer = Timer(job)
    trainer = Trainer(
        max_steps=len(job.batches), accelerator="gpu" if job.device == "cuda" else "cpu", devices=1, precision=job.precision,
        gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, log_every_n_steps=max(1, len(job.batches) // 2),
        callbacks=[Throughput(), GradientNorm(), Memory(), NonFiniteLoss(), RandomState(), timer],
    )  # fmt: skip
    trainer.fit(module, data or Given(job))
    return timer.seconds, timer.first_loss, trainer


def bare(job: Job) -> tuple[float, float]:
    """Seconds and first loss of a plain loop."""
    torch.manual_seed(0)
    model = build_language_model(job.architecture).to(job.device)
    optimizer = AdamW(lr=1e-4)(model)
    rate = Cosine(warmup=0.1, floor=0.1)
    schedule = LambdaLR(optimizer, lambda step: rate(step, len(job.batches)))
    half = torch.autocast(job.device, torch.bfloat16) if job.precision == "bf16-mixed" else nullcontext()
    started = first = 0.0
    for number, batch in enumerate(job.batches):
        batch = move_data_to_device(batch, torch.device(job.device))
        with half:
            mask = Mask().arguments(batch.document_BT)["attention_mask"]
            logits = model(input_ids=batch.tokens_BT, position_ids=batch.position_BT, attention_mask=mask, use_cache=False).logits
            loss = cross_entropy(logits.flatten(0, 1).float(), batch.labels_BT.flatten(), ignore_index=IGNORE)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if number == 0:
            first = loss.item()
        if number + 1 == job.warm:
            started = job.clock()
        job.tick()
    return job.clock() - started, first


def transformers_trainer(job: Job, folder: str, attention: str = "sdpa") -> tuple[float, float]:
    """Seconds and first loss of transformers.Trainer; it finds the documents by their positions."""
    from transformers import Trainer as HFTrainer
    from transformers import TrainerCallback, TrainingArguments

    torch.manual_seed(0)
    model = build_language_model(job.architecture)
    model.config.use_cache = False
    model.set_attn_implementation(attention)
    found = {}

    class Times(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
            if state.global_step == job.warm:
                found["started"] = job.clock()
            if state.global_step == len(job.batches):
                found["seconds"] = job.clock() - found["started"]
            job.tick()

    arguments = TrainingArguments(
        output_dir=folder, max_steps=len(job.batches), per_device_train_batch_size=len(job.batches[0].tokens_BT),
        learning_rate=1e-4, weight_decay=0.1, adam_beta2=0.95, max_grad_norm=1.0, lr_scheduler_type="cosine", warmup_steps=0.1,
        optim="adamw_torch_fused", bf16=job.precision == "bf16-mixed", use_cpu=job.device == "cpu", logging_steps=1 << 20,
        logging_first_step=True, save_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False,
        dataloader_pin_memory=job.device == "cuda", train_sampling_strategy="sequential",
        torch_compile=job.settings.get("compile", False),
    )  # fmt: skip
    trainer = HFTrainer(model=model, args=arguments, train_dataset=_rows(job), callbacks=[Times()])
    trainer.train()
    first = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return found["seconds"], float(first)


def _rows(job: Job) -> list[dict[str, torch.Tensor]]:
    """Rows as transformers.Trainer takes them: labels not shifted, none where a document begins."""
    rows = []
    for batch in job.batches:
        labels_BT = torch.full_like(batch.labels_BT, IGNORE)
        labels_BT[:, 1:] = batch.labels_BT[:, :-1]
        position_BT = batch.position_BT.clone()
        padding_BT = batch.document_BT == 0
        position_BT[padding_BT] = (padding_BT.cumsum(1) - 1)[padding_BT]
        rows += [
            {"input_ids": t, "labels": y, "position_ids": p}
            for t, y, p in zip(batch.tokens_BT, labels_BT, position_BT, strict=True)
        ]
    return rows


def rows_of(data: PretrainDataModule, steps: int) -> list[PackedBatch]:
    """The first batches of a data module."""
    data.trainer = Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, accelerator="cpu", devices=1, enable_model_summary=False
    )
    return list(data.train_dataloader())
