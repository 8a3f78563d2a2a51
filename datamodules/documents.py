"""Documents and prompts as token ids: an Example written in the training format.

`<question> {problem} {question} </question> <solution> {steps} </solution> <answer> {n} </answer>` and EOS after.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from datamodules.batch import IGNORE, PackedBatch, PromptBatch
from datamodules.packing import pack
from datamodules.synthesis import Example, Synthesis


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids of prompt, response and EOS; the first `prompt_tokens` of them are the prompt."""

    ids: list[int]
    prompt_tokens: int


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[Document]:
    """Tokenize examples. Special tokens bound both parts, so they can be tokenized apart."""
    prompts = tokenizer([e.prompt for e in examples], add_special_tokens=False)["input_ids"]
    responses = tokenizer([e.response for e in examples], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [Document([*p, *r, end], len(p)) for p, r in zip(prompts, responses, strict=True)]


def encode_prompts(examples: list[Example], indices: list[int], tokenizer: PreTrainedTokenizerBase) -> PromptBatch:
    """Tokenize the prompts of examples."""
    ids = tokenizer([e.prompt for e in examples], add_special_tokens=False)["input_ids"]
    return PromptBatch(examples, ids, indices)


class PackedRows:
    """A loader of packed documents of one split, as PackedBatches of `batch_rows` rows.

    Documents are packed window by window. Row r of window w is a function of (split, seed, w, r), and the state is one integer.
    """

    WINDOW = 256  # documents packed together
    MOST_ROWS = 1 << 20  # more than a window can have: position = window * MOST_ROWS + row

    def __init__(
        self, synthesis: Synthesis, split: str, tokenizer: PreTrainedTokenizerBase, *, row_length: int, batch_rows: int,
        solution_only: bool, batches: int, repeat: bool = False, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            synthesis: where examples come from.
            split: of the data.
            tokenizer: turns them into ids.
            row_length: T, tokens of a row.
            batch_rows: B, rows of a batch.
            solution_only: only tokens after the prompt carry a loss.
            batches: stop after so many.
            repeat: begin each pass at the first row again; false: go on where the last one stopped.
            rank: number of this process.
            world: how many there are; together they read the rows that one process would, none twice.
        """
        self.synthesis, self.split, self.tokenizer = synthesis, split, tokenizer
        self.row_length, self.batch_rows, self.solution_only, self.batches = row_length, batch_rows, solution_only, batches
        self.repeat, self.rank, self.world = repeat, rank, world
        self.position = 0

    def __iter__(self) -> Iterator[PackedBatch]:
        """Yield batches, from where the state says."""
        if self.repeat:
            self.position = 0
        rows = self._rows()
        for _ in range(self.batches):
            everyones = list(islice(rows, self.batch_rows * self.world))
            yield self._collate(everyones[self.rank :: self.world])

    def __len__(self) -> int:
        """Batches of one pass; a sized loader is not read ahead by Lightning."""
        return self.batches

    def state_dict(self) -> dict[str, int]:
        """Where the next row stands."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.position = state["position"]

    def _rows(self) -> Iterator[list[Document]]:
        while True:
            window, first = divmod(self.position, self.MOST_ROWS)
            numbers = range(window * self.WINDOW, (window + 1) * self.WINDOW)
            documents = encode([self.synthesis.example(self.split, i) for i in numbers], self.tokenizer)
            rows = pack([len(d.ids) for d in documents], self.row_length)
            # best-fit puts the longest first: mix the rows, so that batches are alike
            generator = torch.Generator().manual_seed(window)
            shuffled = [rows[i] for i in torch.randperm(len(rows), generator=generator)]
            for r in range(first, len(shuffled)):
                self.position = window * self.MOST_ROWS + r + 1
                yield [documents[i] for i in shuffled[r]]
            self.position = (window + 1) * self.MOST_ROWS

    def _collate(self, rows: Iterable[list[Document]]) -> PackedBatch:
        return collate(rows, self.row_length, self.tokenizer.pad_token_id, solution_only=self.solution_only)


def collate(rows: Iterable[list[Document]], row_length: int, pad_id: int, *, solution_only: bool) -> PackedBatch:
    """Lay documents out in rows; see PackedBatch. A document's last token predicts nothing."""
    columns: dict[str, list[list[int]]] = {"tokens": [], "labels": [], "document": [], "position": []}
    fills: dict[str, Any] = {"tokens": pad_id, "labels": IGNORE, "document": 0, "position": 0}
    for row in rows:
        laid: dict[str, list[int]] = {name: [] for name in columns}
        for number, document in enumerate(row, start=1):
            n, silent = len(document.ids), document.prompt_tokens - 1 if solution_only else 0
            laid["tokens"] += document.ids
            laid["labels"] += [IGNORE] * silent + document.ids[silent + 1 :] + [IGNORE]
            laid["document"] += [number] * n
            laid["position"] += range(n)
        for name, values in laid.items():
            columns[name].append(values + [fills[name]] * (row_length - len(values)))
    return PackedBatch(*(torch.tensor(columns[name]) for name in ("tokens", "labels", "document", "position")))
