"""Data of pre-training: endless packed documents."""

from collections.abc import Sequence
from typing import Any, Literal

from datamodules.documents import PackedRows
from datamodules.gold_documents import GoldDocuments
from datamodules.graph_spec import GraphSpec
from datamodules.mixture import Component
from datamodules.reasoning import HeldOut, ReasoningDataModule, ShareOf


class PretrainDataModule(ReasoningDataModule):
    """Packed documents of a mixture; validation reads packed documents and held-out problems."""

    def __init__(
        self, mixture: str | Sequence[Component], tokenizer: str, *, share_of: ShareOf = "examples",
        row_length: int = 2048, batch_rows: int = 16, loss_on: Literal["all", "solution"] = "all", validation_batches: int = 4,
        graph: GraphSpec = GraphSpec(), random_letters: bool = True, seed: int = 0, held_out: HeldOut = HeldOut(),
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            mixture: which problems training sees, and how often: components whose weights sum to 1, or the name of a preset.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder.
            share_of: whether weights are shares of the "examples" or of their "tokens".
            row_length: tokens of a row; no document may be longer.
            batch_rows: rows of a batch on each device.
            loss_on: "all" tokens, or those of the "solution" and the answer only.
            validation_batches: packed batches of the validation loss.
            graph: the shape of the problems' graphs.
            random_letters: name steps by random letters; false: A, B, C ... in order.
            seed: of the training data.
            held_out: problems to evaluate on.
        """
        super().__init__(
            mixture, tokenizer, share_of=share_of, graph=graph, random_letters=random_letters, seed=seed, held_out=held_out
        )
        self.row_length, self.batch_rows, self.loss_on = row_length, batch_rows, loss_on
        self.validation_batches = validation_batches

    def _packed(self, split: str, batches: int) -> PackedRows:
        return PackedRows(
            self.synthesis, split, self.tokenizer, row_length=self.row_length, batch_rows=self.batch_rows,
            solution_only=self.loss_on == "solution", batches=batches, repeat=split != "train",
            rank=self.trainer.global_rank, world=self.trainer.world_size,
        )  # fmt: skip

    def train_dataloader(self) -> PackedRows:
        """As many batches as the trainer takes steps."""
        return self._packed("train", max(1, self.trainer.max_steps * self.trainer.accumulate_grad_batches))

    def val_dataloader(self) -> list[Any]:
        """Packed validation documents; where there are held-out problems, their gold documents, then the problems."""
        loaders: list[Any] = [self._packed("validation", self.validation_batches)]
        return [*loaders, self._gold_documents(), super().val_dataloader()] if self.evaluates else loaders

    def _gold_documents(self) -> GoldDocuments:
        return GoldDocuments(
            self.held_out_examples("validation", self.held_out.validation_problems), self.labels["context"], self.tokenizer,
            row_length=self.row_length, batch_rows=self.batch_rows, solution_only=self.loss_on == "solution",
            rank=self.trainer.global_rank, world=self.trainer.world_size,
        )  # fmt: skip
