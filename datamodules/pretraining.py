"""Data of pre-training: endless packed documents."""

from collections.abc import Sequence
from typing import Any, Literal

from datamodules.files.row_source import Files
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut, ReasoningDataModule, ShareOf
from datamodules.rows.gold_documents import GoldDocuments
from datamodules.rows.mixture_counts import MixtureCounts
from datamodules.rows.packed_rows import PackedRows
from datamodules.rows.packing import Fit
from datamodules.rows.windows import LongDocuments, Source, Windows

ROWS_OF_FILES = 256  # documents of files that are packed together


class PretrainDataModule(ReasoningDataModule):
    """Packed documents of a mixture or of files; validation reads packed documents and held-out problems."""

    def __init__(
        self, mixture: str | Sequence[Component] | None = None, tokenizer: str = "published", *, share_of: ShareOf = "examples",
        files: Files = Files(), row_length: int = 2048, batch_rows: int = 16, packing: Fit = "best",
        long_documents: LongDocuments = "raise", loss_on: Literal["all", "solution"] = "all", validation_batches: int = 4,
        workers: int = 0, graph: GraphSpec = GraphSpec(), random_letters: bool = True, seed: int = 0,
        held_out: HeldOut = HeldOut(),
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            mixture: which problems training sees, and how often: components whose weights sum to 1, the name of a preset, or a
                YAML file of components. None: training reads `files`.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder.
            share_of: whether weights are shares of the "examples" or of their "tokens".
            files: rows to train on instead of the mixture's problems.
            row_length: tokens of a row.
            batch_rows: rows of a batch on each device.
            packing: "best" fit, or "first" fit as in the paper (which also let documents see each other: the module's
                `document_mask: false`).
            long_documents: "raise" where a document is longer than a row, or "drop" and count it.
            loss_on: "all" tokens, or those of the "solution" and the answer only.
            validation_batches: packed batches of the validation loss.
            workers: processes that make training rows ahead of time, for each device; 0: none.
            graph: the shape of the problems' graphs.
            random_letters: name steps by random letters; false: A, B, C ... in order.
            seed: of the training data.
            held_out: problems to evaluate on.
        """
        super().__init__(
            mixture, tokenizer, share_of=share_of, files=files, graph=graph, random_letters=random_letters, seed=seed,
            held_out=held_out,
        )  # fmt: skip
        self.row_length, self.batch_rows, self.loss_on, self.packing = row_length, batch_rows, loss_on, packing
        self.long_documents, self.validation_batches, self.workers = long_documents, validation_batches, workers

    def _windows(self, source: Source, split: str) -> Windows:
        cells = self.synthesis.mixture.cells if source is self.synthesis else source.cells
        return Windows(
            source, split, self.tokenizer, cells, row_length=self.row_length, solution_only=self.loss_on == "solution",
            documents=None if source is self.synthesis else ROWS_OF_FILES, fit=self.packing, long_documents=self.long_documents,
        )  # fmt: skip

    def _packed(self, windows: Windows, batches: int, drawn: MixtureCounts | None = None, **settings: Any) -> PackedRows:
        return PackedRows(
            windows, batch_rows=self.batch_rows, batches=batches, drawn=drawn, rank=self.trainer.global_rank,
            world=self.trainer.world_size, **settings,
        )  # fmt: skip

    def train_dataloader(self) -> PackedRows:
        """As many batches as the trainer takes steps."""
        batches = max(1, self.trainer.max_steps * self.trainer.accumulate_grad_batches)
        windows = self._windows(self.source, "train")
        return self._packed(windows, batches, self.drawn, workers=self.workers)

    def val_dataloader(self) -> list[Any]:
        """Packed validation documents; where there are held-out problems, their gold documents, then the problems."""
        source = self._open(self.files.validation) if self.files.validation else self.synthesis
        loaders: list[Any] = []
        if source is not self.synthesis or self.synthesis.mixture is not None:
            loaders.append(self._packed(self._windows(source, "validation"), self.validation_batches, repeat=True))
        return [*loaders, self._gold_documents(), super().val_dataloader()] if self.evaluates else loaders

    def _gold_documents(self) -> GoldDocuments:
        return GoldDocuments(
            self.held_out_examples("validation", self.held_out.validation_problems), self.labels["context"], self.tokenizer,
            row_length=self.row_length, batch_rows=self.batch_rows, solution_only=self.loss_on == "solution",
            rank=self.trainer.global_rank, world=self.trainer.world_size,
        )  # fmt: skip
