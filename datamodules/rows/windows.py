"""Windows: documents packed together, a function of (source, split, number of the window) alone.

Synthetic documents are endless: each window has its own range of document numbers and draws until ROWS rows are full. So a row
depends on no other window, and processes need not prepare each other's rows. Documents that no longer fit are discarded. Rows of
files are finite: each window packs the next `documents` of them into as many rows as needed.
Not here: which process reads which row, and when (`packed_rows.py`).
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from datamodules.choices import check_choice
from datamodules.problems.keyed import keyed_random
from datamodules.problems.mixture import Cell
from datamodules.problems.synthesis import TrainingText
from datamodules.rows.documents import Document, PackedBatch, collate, encode

ROWS = 32  # of a synthetic window: more pack better, fewer let more processes share the work
STRIDE = 1 << 20  # document numbers reserved for a synthetic window, far more than it can hold
MOST_DROPPED = 1000  # documents dropped in a row before giving up
NONE_FITS = "no document fits a row of {} tokens; raise `row_length`, or train on shorter problems."


Fit = Literal["best", "first"]
LongDocuments = Literal["raise", "drop"]


@dataclass(frozen=True)
class Packing:
    """How documents become rows.

    Args:
        fit: "best" fit, or "first" fit as in arXiv:2512.07783 (which also lets documents see each other: the module's
            `document_mask: false`).
        long_documents: "raise" if a document is longer than a row, or "drop" and count it.
    """

    fit: Fit = "best"
    long_documents: LongDocuments = "raise"

    def __post_init__(self) -> None:
        check_choice("packing: fit", self.fit, Fit)
        check_choice("packing: long_documents", self.long_documents, LongDocuments)


def pack(lengths: Sequence[int], row_length: int, *, fit: str = "best") -> list[list[int]]:
    """Put each document, longest first, into the fullest row that it fits ("best"), or into the first one ("first").

    First-fit decreasing is how the authors of arXiv:2512.07783 packed.

    Args:
        lengths: tokens of each document.
        row_length: tokens of a row.
        fit: "best" or "first".

    Returns:
        Rows of document indices; every document is in exactly one row.

    Raises:
        ValueError: a document longer than a row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if order and lengths[order[0]] > row_length:
        raise ValueError(
            f"a document of {lengths[order[0]]} tokens does not fit a row of {row_length}; raise `row_length`, lower `ops`, "
            "or set `packing: {long_documents: drop}`."
        )
    return (_best_fit if fit == "best" else _first_fit)(order, lengths, row_length)


def _best_fit(order: list[int], lengths: Sequence[int], row_length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, row), the fewest first
    for document in order:
        at = bisect_left(rooms, (lengths[document], -1))
        if at < len(rooms):
            room, row = rooms.pop(at)
        else:
            room, row = row_length, len(rows)
            rows.append([])
        rows[row].append(document)
        insort(rooms, (room - lengths[document], row))
    return rows


def _first_fit(order: list[int], lengths: Sequence[int], row_length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    rooms: list[int] = []
    for document in order:
        length = lengths[document]
        row = next((r for r, room in enumerate(rooms) if room >= length), len(rows))
        if row == len(rows):
            rows.append([])
            rooms.append(row_length)
        rows[row].append(document)
        rooms[row] -= length
    return rows


def pack_first(lengths: Sequence[int], row_length: int, rows: int, *, fit: str = "best") -> list[list[int]]:
    """Pack the longest prefix of the documents that fits `rows` rows.

    Returns:
        `rows` rows of document indices; the last are empty if documents are too few.
    """
    for kept in range(len(lengths), -1, -1):
        packed = pack(lengths[:kept], row_length, fit=fit)
        if len(packed) <= rows:
            break
    return packed + [[] for _ in range(rows - len(packed))]


class Source(Protocol):
    """A source of documents: `Synthesis`, or rows of files."""

    @property
    def seed(self) -> int:
        """Another seed, other documents or another order."""

    def example(self, split: str, index: int) -> TrainingText:
        """Document number `index` of `split`."""


@dataclass(slots=True)
class Window:
    """Rows packed together.

    batch:   the rows.
    placed:  int64 [documents, 3]: row, number of the cell, tokens.
    dropped: number of documents left out because they are longer than a row.
    """

    batch: PackedBatch
    placed: Tensor
    dropped: int = 0


class Windows(Dataset):
    """Number of a window -> Window."""

    def __init__(
        self, source: Source, split: str, tokenizer: PreTrainedTokenizerBase, cells: Sequence[Cell], *, row_length: int,
        solution_only: bool = False, documents: int | None = None, packing: Packing = Packing(),
    ) -> None:  # fmt: skip
        """Number the cells.

        Args:
            source: of documents.
            split: of the data.
            tokenizer: turns them into ids.
            cells: those of the documents, in the order of their numbers.
            row_length: T, tokens of a row.
            solution_only: only tokens after the prompt carry a loss.
            documents: in each window; None: as many as fill ROWS rows, for an endless source.
            packing: how documents become rows.
        """
        self.source, self.split, self.tokenizer, self.documents = source, split, tokenizer, documents
        self.numbers = {cell: number for number, cell in enumerate(cells)}
        self.row_length, self.solution_only, self.packing = row_length, solution_only, packing

    @property
    def rows(self) -> int | None:
        """Rows of every window; None if they differ."""
        return ROWS if self.documents is None else None

    def __getitem__(self, number: int) -> Window:
        if self.documents is None:
            drawn, taken = self._fill(number * STRIDE)
            rows = pack_first([len(d.ids) for d, _ in drawn], self.row_length, ROWS, fit=self.packing.fit)
        else:
            drawn, taken = self._read(number * self.documents, self.documents), self.documents
            rows = pack([len(d.ids) for d, _ in drawn], self.row_length, fit=self.packing.fit)
        # packing puts the longest first: shuffle the rows, so that batches are alike
        keyed_random(f"{self.split}/{self.source.seed}/{number}").shuffle(rows)
        laid = [[drawn[i][0] for i in row] for row in rows]
        batch = collate(laid, self.row_length, self.tokenizer.pad_token_id, solution_only=self.solution_only)
        placed = [(r, drawn[i][1], len(drawn[i][0].ids)) for r, row in enumerate(rows) for i in row]
        return Window(batch, torch.tensor(placed, dtype=torch.int64).reshape(-1, 3), taken - len(drawn))

    def _fill(self, first: int) -> tuple[list[tuple[Document, int]], int]:
        """Documents from number `first` on until they have more tokens than the rows hold, and the number of those read."""
        drawn: list[tuple[Document, int]] = []
        taken, tokens, capacity = 0, 0, ROWS * self.row_length
        while tokens <= capacity:
            mean = tokens / len(drawn) if drawn else self.row_length
            count = 1 + int((capacity - tokens) / mean)
            found = self._read(first + taken, count)
            drawn += found
            taken += count
            tokens += sum(len(document.ids) for document, _ in found)
            if not drawn and taken > MOST_DROPPED:
                raise ValueError(NONE_FITS.format(self.row_length))
        while tokens - len(drawn[-1][0].ids) > capacity:
            tokens -= len(drawn.pop()[0].ids)
            taken -= 1
        return drawn, taken

    def _read(self, first: int, count: int) -> list[tuple[Document, int]]:
        """Documents `first` ... `first + count - 1` and the numbers of their cells; those to be dropped are omitted."""
        texts = [self.source.example(self.split, index) for index in range(first, first + count)]
        cells = [self.numbers[text.cell] for text in texts]
        read = zip(encode(texts, self.tokenizer), cells, strict=True)
        return [(d, cell) for d, cell in read if len(d.ids) <= self.row_length or self.packing.long_documents == "raise"]
