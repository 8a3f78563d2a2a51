"""Pre-training: next-token prediction on packed documents that do not see each other, from fresh weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from datamodules.batch import IGNORE, PackedBatch, PromptBatch
from lightning_modules.compute import packed_counts
from lightning_modules.language_model import document_mask
from lightning_modules.optimizers import AdamW, OptimizerFactory
from lightning_modules.reasoner import Evaluation, Reasoner
from lightning_modules.schedules import Cosine, Schedule


class PretrainModule(Reasoner):
    """minimise  - mean_t log pi(token_t+1 | tokens of its document up to t), over positions that carry a label."""

    def __init__(
        self, architecture: dict[str, Any] | None = None, *, init_from: str | None = None,
        optimizer: OptimizerFactory | None = None, schedule: Schedule | None = None, evaluation: Evaluation = Evaluation(),
        compile: bool = False,
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            architecture: `model_type` and keys of its transformers config.
            init_from: weights to start from, instead of `architecture`.
            optimizer: AdamW where not given.
            schedule: cosine where not given.
            evaluation: how validation, test and prediction sample.
            compile: compile the loss (worth it from a few hundred steps on; needs a C++ compiler on a CPU).
        """
        super().__init__(architecture, init_from, optimizer or AdamW(), schedule or Cosine(), evaluation)
        self.compile_loss = compile
        self.loss: Callable[[PackedBatch], Tensor] = self._loss
        # real tokens seen since the stage began; a buffer, so that it is saved and resumed
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.int64))

    def configure_model(self) -> None:
        """Build the language model and, where asked, compile the loss."""
        super().configure_model()
        if self.compile_loss and self.loss == self._loss:
            self.loss = torch.compile(self._loss, dynamic=False)

    def _loss(self, tokens_BT: Tensor, labels_BT: Tensor, document_BT: Tensor, position_BT: Tensor) -> Tensor:
        logits_BTV = self.language_model(
            input_ids=tokens_BT, position_ids=position_BT, attention_mask=document_mask(document_BT), use_cache=False
        ).logits
        return cross_entropy(logits_BTV.flatten(0, 1).float(), labels_BT.flatten(), ignore_index=IGNORE)

    def training_step(self, batch: PackedBatch, batch_idx: int) -> dict[str, Any]:
        """One packed batch."""
        loss = self.loss(batch.tokens_BT, batch.labels_BT, batch.document_BT, batch.position_BT)
        tokens = batch.tokens
        self.tokens_seen += tokens
        self.compute.add("update", packed_counts(batch.position_BT, batch.document_BT))
        self.compute.add_nominal(batch.tokens_BT.numel())
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/tokens", self.tokens_seen.float())
        return {"loss": loss, "tokens": tokens}

    def validation_step(self, batch: PackedBatch | PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Loss on packed validation documents, or judged samples, by what the loader gives."""
        if isinstance(batch, PromptBatch):
            return self.evaluate(batch, batch_idx)
        loss = self._loss(batch.tokens_BT, batch.labels_BT, batch.document_BT, batch.position_BT)
        self.log("val/loss", loss, prog_bar=True, add_dataloader_idx=False, sync_dist=True)
        return {"loss": loss}
