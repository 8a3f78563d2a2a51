"""Data of pre-training and mid-training: endless packed documents."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from datamodules.choices import check_choice
from datamodules.earlier_arguments import EarlierArguments
from datamodules.files.row_source import RowSource
from datamodules.problems.mixture import Component, components_of
from datamodules.reasoning import ReasoningDataModule
from datamodules.rows.gold_documents import GoldDocuments
from datamodules.rows.mixture_counts import MixtureCounts
from datamodules.rows.packed_rows import PackedRows
from datamodules.rows.tokenizer import TokenizerSettings
from datamodules.rows.windows import Packing, Source, Windows

ROWS_OF_FILES = 256  # documents of files that are packed together

LossOn = Literal["all", "solution"]

NO_REPLAY = "`data.init_args.replay` needs a `mixture`, not rows of `files`; set one, or leave out `replay`."


class PretrainDataModule(ReasoningDataModule, metaclass=EarlierArguments):
    """Packed documents of a mixture or of files; validation reads packed documents and held-out problems."""

    earlier_arguments: ClassVar = {"packing": "packing.fit", "long_documents": "packing.long_documents"}

    def __init__(
        self, mixture: str | Sequence[Component] | None = None, tokenizer: str | TokenizerSettings = "published", *,
        row_length: int = 2048, batch_rows: int = 16, packing: Packing = Packing(), loss_on: LossOn = "all",
        validation_batches: int = 4, workers: int = 0, **problems: Any,
    ) -> None:  # fmt: skip
        """Set how problems become rows.

        Args:
            mixture: problems for training: components whose weights sum to 1, the name of a preset, or a YAML file of
                components. None: training reads `files`.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder; {name: FOLDER, add_tags: true} adds missing tags.
            row_length: tokens of a row.
            batch_rows: rows of a batch on each device.
            packing: how documents become rows.
            loss_on: "all" tokens, or only those of the "solution" and the answer.
            validation_batches: packed batches of the validation loss.
            workers: processes that prepare training rows ahead of time, for each device; 0: none.
            problems: `share_of`, `files`, `graph`, `random_letters`, `seed` and `held_out`; see ReasoningDataModule.
        """
        check_choice("loss_on", loss_on, LossOn)
        super().__init__(mixture, tokenizer, **problems)
        if min(row_length - 1, batch_rows, workers + 1, validation_batches) < 1:
            raise ValueError(
                f"row_length={row_length} must be at least 2, batch_rows={batch_rows} and validation_batches="
                f"{validation_batches} at least 1, workers={workers} at least 0."
            )
        self.row_length, self.batch_rows, self.loss_on, self.packing = row_length, batch_rows, loss_on, packing
        self.validation_batches, self.workers = validation_batches, workers

    def _windows(self, source: Source, split: str) -> Windows:
        cells = source.cells if isinstance(source, RowSource) else self.synthesis.mixture.cells
        return Windows(
            source, split, self.tokenizer, cells, row_length=self.row_length, solution_only=self.loss_on == "solution",
            documents=None if source is self.synthesis else ROWS_OF_FILES, packing=self.packing,
        )  # fmt: skip

    def _packed(self, windows: Windows, batches: int, drawn: MixtureCounts | None = None, **settings: Any) -> PackedRows:
        return PackedRows(
            windows, batch_rows=self.batch_rows, batches=batches, drawn=drawn, rank=self.rank, world=self.world, **settings,
        )  # fmt: skip

    def train_dataloader(self) -> PackedRows:
        """One batch per training step; without a Trainer, one after the other without end."""
        windows = self._windows(self.source, "train")
        return self._packed(windows, self.batches, self.drawn, workers=self.workers)

    def val_dataloader(self) -> list[Any]:
        """Packed validation documents and, with held-out problems, their gold documents and the problems."""
        files = self.files
        source = self._open(files.validation, files.bad_rows, self.read_row) if files.validation else self.synthesis
        loaders: list[Any] = []
        if source is not self.synthesis or self.synthesis.mixture is not None:
            loaders.append(self._packed(self._windows(source, "validation"), self.validation_batches, repeat=True))
        return [*loaders, self._gold_documents(), super().val_dataloader()] if self.evaluates else loaders

    def _gold_documents(self) -> GoldDocuments:
        return GoldDocuments(
            self.held_out_examples("validation", self.held_out.validation_problems), self.labels["context"], self.tokenizer,
            row_length=self.row_length, batch_rows=self.batch_rows, solution_only=self.loss_on == "solution",
            rank=self.rank, world=self.world,
        )  # fmt: skip


class MidtrainDataModule(PretrainDataModule):
    """PretrainDataModule with replay: `mixture` for new problems, and `replay` for a share of old ones."""

    def __init__(
        self, mixture: str | Sequence[Component] | None = None, tokenizer: str | TokenizerSettings = "published", *,
        replay: str | Sequence[Component] = (), replay_share: float = 0.0, **settings: Any,
    ) -> None:  # fmt: skip
        """Join the two mixtures.

        Args:
            mixture: new problems: components whose weights sum to 1, the name of a preset, or a YAML file.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder; {name: FOLDER, add_tags: true} adds missing tags.
            replay: problems of earlier stages, likewise.
            replay_share: share of examples that are replayed.
            settings: those of PretrainDataModule.
        """
        if mixture is not None:
            mixture = with_replay(components_of(mixture), components_of(replay), replay_share)
        elif replay or replay_share:
            raise ValueError(NO_REPLAY)
        super().__init__(mixture, tokenizer, **settings)
        if self.rows and replay_share:
            raise ValueError(NO_REPLAY)


def with_replay(mixture: Sequence[Component], replay: Sequence[Component], share: float) -> list[Component]:
    """Scale two mixtures, each with weights that sum to 1, into one.

    Raises:
        ValueError: a share outside [0, 1), a share without problems to replay, or the reverse.
    """
    if not 0 <= share < 1 or bool(replay) != (share > 0):
        raise ValueError(
            f"replay_share={share} with {len(replay)} components to replay: give `data.init_args.replay` and a share above 0 "
            "and below 1, or neither."
        )
    return [replace(c, weight=c.weight * (1 - share)) for c in mixture] + [replace(c, weight=c.weight * share) for c in replay]
