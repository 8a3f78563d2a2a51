"""Rows of JSONL files as examples by number: `example(split, index)`, in endless passes, each in another order.

Files are read once to find and check their rows; then rows are read from disk on demand. Rows of compressed files stay in
memory, decompressed.
"""

import re
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from datamodules.choices import check_choice
from datamodules.files.jsonl import check_unicode, stated_cell
from datamodules.files.line_files import find_files, is_compressed, lines_of
from datamodules.problems.keyed import keyed_generator
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import GOLD_ANSWER, TrainingText
from grammar.judge import read_row
from grammar.reading.problem import read_problem

BadRows = Literal["raise", "skip"]
_ANSWERED = re.compile(rf"{GOLD_ANSWER}-?\d+\.\s*$")


@dataclass(frozen=True)
class Files:
    """JSONL files of problems to train on instead of synthetic ones (`jsonl.py` says what a row needs).

    Args:
        train: files, folders or globs. Each row is read once before any is read again.
        validation: likewise, for the validation loss; without them it is measured on the mixture, if any.
        bad_rows: "raise" at the first, or "skip" and count.
    """

    train: Sequence[str] = ()
    validation: Sequence[str] = ()
    bad_rows: BadRows = "raise"


@dataclass(frozen=True, slots=True)
class Solved(TrainingText):
    """A problem with a solution, as text, unchecked."""

    problem: str
    question: str
    solution: str
    cell: Cell


def to_solved(row: object, stem: str, number: int) -> Solved:
    """Read a row to learn from. Its problem is parsed only if the row lacks `op` or `mode`.

    Raises:
        ValueError: no problem, or no solution that ends in an answer.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    texts = {key: row.get(key) for key in ("problem", "question", "solution")}
    for key, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected `{key}` to be text, found {text!r}")
        check_unicode(text, key)
    if not _ANSWERED.search(texts["solution"]):
        raise ValueError(f"expected a `solution` that ends in `Answer: N.`, found {texts['solution'][-30:]!r}")
    op, mode = stated_cell(row)
    if op is None or mode is None:
        graph, unread = read_problem(texts["problem"], texts["question"])
        if unread and graph.verdict[0] is None:
            raise ValueError(f"sentence {unread[0].index} of `problem` is not understood: {unread[0].text[:100]!r}")
        op, mode = op or graph.op, mode or MODES[graph.unknown is not None]
    return Solved(**texts, cell=Cell(op, str(row.get("template") or stem), mode))


class RowSource:
    """The rows of files, in order by iteration, or endlessly by number; `skipped` counts the bad rows left out."""

    def __init__(
        self, sources: Sequence[str | Path], *, seed: int = 0, bad_rows: BadRows = "raise",
        read: Callable[[object, str, int], Any] = to_solved, known: Container[Any] = (),
    ) -> None:  # fmt: skip
        """Find and check all rows.

        Args:
            sources: files, folders or globs.
            seed: of the order.
            bad_rows: "raise" at the first row that `read` refuses, or "skip" and count (`skipped`).
            read: turns a row into an example; `to_solved`, or `to_example` if its graph is also needed.
            known: rows to report if they occur: `found` holds the file and line of each.

        Raises:
            ValueError: a source that names no file, a bad row under "raise", no row at all, or an unknown `bad_rows`.
        """
        check_choice("bad_rows", bad_rows, BadRows)
        self.files, self.seed, self.read, self.skipped = find_files(sources), seed, read, 0
        self.held: dict[int, bytearray] = {}  # number of a compressed file -> its rows
        self.places = array("q")  # of each row: file, line, first byte, bytes
        self.found: list[str] = []
        cells: set[Cell] = set()
        for file, path in enumerate(self.files):
            for line, start, text in self._rows(file):
                try:
                    example = self._example(file, line, text)
                    cells.add(example.cell)
                    self.places.extend((file, line, start, len(text)))
                    if example in known:
                        self.found.append(f"{path}, line {line}")
                except ValueError as err:
                    if bad_rows == "raise":
                        raise ValueError(f"{path}, line {line}: {err}") from err
                    self.skipped += 1
        if not self.places:
            raise ValueError(f"{[str(file) for file in self.files]} hold no usable row; {self.skipped} were skipped.")
        self.cells = sorted(cells, key=lambda cell: (cell.op, cell.context, cell.mode))

    def __len__(self) -> int:
        return len(self.places) // 4

    def _rows(self, file: int) -> Iterator[tuple[int, int, bytes]]:
        """Line numbers, first bytes and lines that are not blank."""
        start, compressed = 0, is_compressed(self.files[file])
        held = self.held.setdefault(file, bytearray()) if compressed else None
        for number, line in lines_of(self.files[file]):
            if line.strip():
                yield number, start, line
            if held is not None:
                held += line
            start += len(line)

    def _example(self, file: int, line: int, text: bytes | bytearray) -> Any:
        return self.read(read_row(text), self.files[file].name.split(".")[0], line)

    def __iter__(self) -> Iterator[Any]:
        return map(self._row, range(len(self)))

    def example(self, split: str, index: int) -> Any:
        """Row number `index` of endless passes, each in another order."""
        return self._row(int(_order(self.seed, index // len(self), len(self))[index % len(self)]))

    def _row(self, row: int) -> Any:
        file, line, start, size = self.places[4 * row : 4 * row + 4]
        if file in self.held:
            return self._example(file, line, self.held[file][start : start + size])
        with self.files[file].open("rb") as opened:
            opened.seek(start)
            return self._example(file, line, opened.read(size))


@lru_cache(maxsize=4)
def _order(seed: int, times: int, rows: int) -> torch.Tensor:
    """The order of rows in pass number `times`."""
    return torch.randperm(rows, generator=keyed_generator(f"{seed}/{times}"))
