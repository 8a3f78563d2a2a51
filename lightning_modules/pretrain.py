"""Pre-training and mid-training: next-token prediction on packed documents that do not see each other.

The loss is the mean over the labels of the global batch, so that one process, several, and accumulated batches take the same
step: each batch adds a sum, and gradients are divided by the number of labels once all of the step's are known.
Not here: attention backends (attention.py), losses by band, context and kind of token (metrics/gold_loss.py).
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint
from torchmetrics import MeanMetric

from datamodules.rows.documents import IGNORE, PackedBatch, PromptBatch
from datamodules.rows.gold_documents import LABEL_KINDS, GoldBatch
from lightning_modules.metrics import GoldLoss, gold_loss_table
from lightning_modules.models.attention import SDPA, AttentionName, Backend, choose_backend, stacked_edges
from lightning_modules.models.compute import countable, packed_counts
from lightning_modules.models.flops import training_flops
from lightning_modules.models.label_scores import fits_whole, headless, label_scores
from lightning_modules.models.language_model import check_length
from lightning_modules.optimizers import AdamW
from lightning_modules.schedules import Cosine
from lightning_modules.stage import StageModule


class PretrainModule(StageModule):
    """minimise  mean_t [ - log pi(token_t+1 | tokens of its document up to t) + z_loss * (log Z_t)^2 ]  over labelled t."""

    default_optimizer, default_schedule = AdamW(), Cosine()

    def __init__(
        self, architecture: dict[str, Any] | None = None, *, init_from: str | None = None, attention: AttentionName = "auto",
        document_mask: bool = True, z_loss: float = 0.0, compile: bool = False, **stage: Any,
    ) -> None:  # fmt: skip
        """Choose the computation of packed rows.

        Args:
            architecture: `model_type` and keys of its transformers config.
            init_from: weights to start from, instead of `architecture`.
            attention: backend of packed rows; auto: the first of flash_attention_2, varlen, flex_attention, documents, sdpa
                and mask that works.
            document_mask: documents of a row do not see each other; false: they see earlier ones and positions run on, as in
                the paper's training.
            z_loss: weight of (log Z)^2, Z the softmax denominator; it keeps logits from drifting (arXiv:2204.02311).
            compile: compile the loss (pays off after a few hundred steps; needs a C++ compiler on a CPU).
            stage: `optimizer` (default: AdamW), `schedule` (default: cosine) and `evaluation`; see StageModule.
        """
        super().__init__(architecture, init_from, **stage)
        if compile and self.gradient_checkpointing:
            raise ValueError("`compile` does not recompute activations; set one of `compile` and `gradient_checkpointing`.")
        self.attention, self.document_mask, self.z_loss, self.compile_loss = attention, document_mask, z_loss, compile
        self.compile_layers = compile
        self.backend: Backend = SDPA()
        self.sums: Callable[..., Tensor] = self._sums
        self.per_batch = 0  # divisor of sums until the number of labels of the step is known
        # real tokens of all processes since the start of the stage; a buffer, so that it is saved and resumed
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.int64))
        self.validation_loss = MeanMetric()

    def configure_model(self) -> None:
        """Build the language model and, if asked, compile the loss (or, if the model is sharded, its layers)."""
        super().configure_model()
        if self.compile_loss and self.device_mesh is None and self.sums == self._sums:
            self.sums = torch.compile(self._sums, dynamic=False)

    @cached_property
    def flops_known(self) -> bool:
        """Whether FLOPs of the model are known."""
        return countable(self.language_model.config)

    def setup(self, stage: str) -> None:
        """Choose the attention backend and allocate counters."""
        super().setup(stage)
        with self.trainer.precision_plugin.forward_context():
            self.backend = choose_backend(
                self.attention, self.trainer.strategy.root_device, half="16" in str(self.trainer.precision),
                model=self.language_model, compiled=self.compile_loss, packed=self.document_mask,
            )  # fmt: skip
        self.step_sums = torch.zeros(4, dtype=torch.float64)
        self.gold_loss = GoldLoss(len(self.labels["context"]), len(LABEL_KINDS))

    def on_before_batch_transfer(self, batch: PackedBatch | PromptBatch, dataloader_idx: int) -> PackedBatch | PromptBatch:
        """Find the boundaries of documents while the batch is on the CPU, and pin it, so that neither it nor the device waits."""
        if isinstance(batch, PackedBatch):
            batch = batch if self.document_mask else batch.as_one_document()
            check_length(self.language_model, int(batch.position_BT.max()) + 1)
            edges = [self.backend.edges(part.document_BT) for part in batch.parts(self.rows_per_pass(batch))]
            batch.edges_PD = stacked_edges(edges) if self.backend.needs_edges else None
            batch = batch.pinned() if self.device.type == "cuda" else batch
        return batch

    def rows_per_pass(self, batch: PackedBatch) -> int:
        """Rows that go through the model at once; a compiled loss, which is not computed twice, takes all."""
        rows, length = batch.tokens_BT.shape
        return rows if self.compile_loss else max(1, min(rows, self.pass_tokens // length))

    def _scores(
        self, tokens_BT: Tensor, labels_BT: Tensor, position_BT: Tensor, **where: Any
    ) -> tuple[Tensor, Tensor | None, Tensor]:  # fmt: skip
        """[N] log-probability of each label, with a `z_loss` also log Z, nats, and the labels; see `label_scores`."""
        whole = self.whole_logits or self.compile_loss or fits_whole(self.language_model, labels_BT.numel())
        with nullcontext() if whole else headless(self.language_model) as head:
            outputs_NX, labels_N = self.backend.logits(self.language_model, tokens_BT, labels_BT, position_BT, **where)
        return *label_scores(outputs_NX, labels_N, head, mass=self.z_loss > 0), labels_N

    def _sums(self, tokens_BT: Tensor, labels_BT: Tensor, position_BT: Tensor, **where: Any) -> Tensor:
        """Sums over labels of -log pi, (log Z)^2 and 1: [3]."""
        logp_N, mass_N, labels_N = self._scores(tokens_BT, labels_BT, position_BT, **where)
        labelled_N = labels_N != IGNORE
        square = (mass_N.square() * labelled_N).sum() if self.z_loss else logp_N.new_zeros(())
        return torch.stack([-logp_N.sum(), square, labelled_N.sum().float()])

    def _call(self, function: Callable[..., Any], batch: PackedBatch) -> Any:
        with self.backend.attending(self.language_model):
            where = self.backend.arguments(batch.document_BT, None if batch.edges_PD is None else batch.edges_PD[0])
            return function(batch.tokens_BT, batch.labels_BT, batch.position_BT, **where)

    @property
    def _parts(self) -> int:
        """Batches of a step, on all processes."""
        return self.trainer.world_size * self.trainer.accumulate_grad_batches

    def training_step(self, batch: PackedBatch, batch_idx: int) -> dict[str, Any]:
        """One packed batch; `optimizer_step` corrects the constant divisor of its loss."""
        *before, last = batch.parts(self.rows_per_pass(batch))
        again = [checkpoint(self._call, self.sums, part, use_reentrant=False) for part in before]
        sums_3 = sum(again, self._call(self.sums, last))  # the backward pass begins with what was run last, and is kept
        nll, square, labels = sums_3
        tokens, attended = packed_counts(batch.position_BT, batch.document_BT)
        self.compute.add("update", (tokens, attended))
        self.compute.nominal_tokens += batch.tokens_BT.numel()
        self.step_sums = self.step_sums.to(self.device) + torch.cat([sums_3.detach().double(), tokens[None].double()])
        self.per_batch = self.per_batch or batch.labels_BT.numel()
        loss = (nll + self.z_loss * square) / (labels.clamp(min=1) if self._parts == 1 else self.per_batch)
        config, context = self.language_model.config, attended.double() / tokens.clamp(min=1)
        flops = training_flops(config, tokens=tokens, context=context) if self.flops_known else None
        return {"loss": loss, "tokens": tokens, "flops": flops}

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        """As Lightning does, with gradients divided by the labels of the global batch before they are used."""

        def closure() -> Any:
            output = optimizer_closure()
            self._finish_sums()
            return output

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def _finish_sums(self) -> None:
        """Add up the step's sums over processes, correct its gradients, and store its log."""
        nll, square, labels, tokens = self.trainer.strategy.reduce(self.step_sums.clone(), reduce_op="sum")
        labels = labels.clamp(min=1)
        if self._parts > 1:
            # backward took the mean over processes and accumulated batches of sums / per_batch
            factor = (self._parts * self.per_batch / labels).float()
            for grad in (p.grad for p in self.language_model.parameters() if p.grad is not None):
                (grad.to_local() if isinstance(grad, DTensor) else grad).mul_(factor)
        self.tokens_seen += tokens.long()
        self.step_log = {"train/loss": nll / labels} | ({"train/z_loss": square / labels} if self.z_loss else {})
        self.step_sums = torch.zeros_like(self.step_sums)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the first step and those that Lightning writes, as `log` takes a millisecond."""
        step, every = self.trainer.global_step + 1, self.trainer.log_every_n_steps
        if step == 1 or (every and step % every == 0):
            self.log_dict(self.step_log)
            self.log("train/tokens", self.tokens_seen.float())
            self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def validation_step(  # type: ignore[override]  # of more kinds of batches
        self, batch: PackedBatch | PromptBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Any]:
        """Loss on packed validation documents or on gold documents of held-out problems; or judged samples, by kind of batch."""
        if isinstance(batch, PromptBatch):
            return self.evaluate(batch)
        parts = [self._call(self._scores, part) for part in batch.parts(self.rows_per_pass(batch))]
        nll_N, labels_N = -torch.cat([logp_N for logp_N, *_ in parts]), torch.cat([labels_N for *_, labels_N in parts])
        labelled_BT, count = batch.labels_BT != IGNORE, (labels_N != IGNORE).sum()
        if isinstance(batch, GoldBatch):
            of = (x[labelled_BT] for x in (batch.op_BT, batch.context_BT, batch.kind_BT))
            self.gold_loss.update(nll_N[labels_N != IGNORE], *of)
        else:
            self.validation_loss.update(nll_N.sum() / count.clamp(min=1), weight=count)
            self.log("val/loss", self.validation_loss, add_dataloader_idx=False)
        return {"loss": nll_N.sum() / count.clamp(min=1)}

    def on_validation_epoch_start(self) -> None:
        """Reset the counters."""
        super().on_validation_epoch_start()
        self.gold_loss.reset()
        self.validation_loss.reset()  # what `validate` left cannot be added to in training

    def on_validation_epoch_end(self) -> None:
        """Log the loss on gold documents by band and context, and the perplexity of their solutions by kind of token."""
        super().on_validation_epoch_end()
        if self.gold_loss.update_called:
            table = gold_loss_table(self.gold_loss.compute(), self.trainer.datamodule.bands, self.labels["context"], LABEL_KINDS)
            self.log_dict({f"val/{name}": value for name, value in table.items()}, rank_zero_only=True)


class MidtrainModule(PretrainModule):
    """The objective of pre-training on narrower data, from the weights of an earlier stage, with a fresh optimiser."""

    def __init__(self, init_from: str, **settings: Any) -> None:
        """Start from `init_from`.

        Args:
            init_from: a Hugging Face folder, or a `.ckpt` of one of our modules.
            settings: those of PretrainModule, without `architecture`.
        """
        super().__init__(None, init_from=init_from, **settings)
