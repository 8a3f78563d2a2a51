"""Documents and prompts as token ids: an example in the training format (`TrainingText`), then EOS.

Not here: which documents share a row (`windows.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.problems.synthesis import Example, TrainingText
from datamodules.rows.word_ids import token_ids

IGNORE = -100  # label of a position that carries no loss (torch.nn.functional.cross_entropy's default)

_ROWWISE = ("tokens_BT", "labels_BT", "document_BT", "position_BT")


@dataclass(slots=True)
class PackedBatch:
    """Rows of whole documents.

    tokens_BT:    int64 ids; padding at the end of a row.
    labels_BT:    the id to predict at position t (already shifted), or IGNORE.
    document_BT:  number of the document a token belongs to, from 1 within its row; 0 is padding.
    position_BT:  position within the document, from 0.
    edges_PD:     starts of documents in the flattened rows of each of P parts, for attention backends that need them; else None.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    document_BT: Tensor
    position_BT: Tensor
    edges_PD: Tensor | None = None

    def rows(self, low: int, high: int) -> Self:
        """Rows `low` ... `high - 1`, without copying."""
        return type(self)(*(getattr(self, name)[low:high] for name in _ROWWISE))

    def parts(self, most: int) -> "list[PackedBatch]":
        """At most so many rows at a time, without copying; `edges_PD`, if there are any, are those of these parts."""
        found = []
        for number, low in enumerate(range(0, len(self.tokens_BT), most)):
            rowwise = {name: getattr(self, name)[low : low + most] for name in _ROWWISE}
            edges_PD = None if self.edges_PD is None else self.edges_PD[number : number + 1]
            found.append(PackedBatch(**rowwise, edges_PD=edges_PD))
        return found

    def pinned(self) -> Self:
        """The same in page-locked memory, from which copies to a GPU make no one wait."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: x.pin_memory() for name, x in tensors.items() if x is not None})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of several batches in sequence."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _ROWWISE))

    def as_one_document(self) -> Self:
        """The same rows, each as one document: positions run on, and later documents see earlier ones."""
        position_BT = torch.arange(self.position_BT.shape[1], device=self.position_BT.device).expand_as(self.position_BT)
        return replace(self, document_BT=(self.document_BT > 0).long(), position_BT=position_BT)


@dataclass(slots=True)
class PromptBatch:
    """B problems to sample solutions for; `indices` number them within their split.

    repeats: number of problems at the end that belong to another process: they keep processes in step and are not counted.
    """

    examples: list[Example]
    prompt_ids: list[list[int]]
    indices: list[int]
    repeats: int = 0

    def to(self, device: torch.device, **kwargs: bool) -> Self:
        """Nothing to move: the rollout engine builds its own tensors."""
        return self


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids of prompt, response and EOS; the first `prompt_tokens` of them are the prompt."""

    ids: list[int]
    prompt_tokens: int


def encode(texts: Sequence[TrainingText], tokenizer: PreTrainedTokenizerBase) -> list[Document]:
    """Tokenize texts. Special tokens bound both parts, so each can be tokenized separately."""
    ids = token_ids([text.prompt for text in texts] + [text.response for text in texts], tokenizer)
    end = tokenizer.eos_token_id
    return [Document([*p, *r, end], len(p)) for p, r in zip(ids[: len(texts)], ids[len(texts) :], strict=True)]


def encode_prompts(examples: list[Example], indices: list[int], tokenizer: PreTrainedTokenizerBase) -> PromptBatch:
    """Tokenize the prompts of examples."""
    return PromptBatch(examples, token_ids([e.prompt for e in examples], tokenizer), indices)


def collate(rows: Iterable[Sequence[Document]], row_length: int, pad_id: int, *, solution_only: bool) -> PackedBatch:
    """Lay documents out in rows; see PackedBatch. A document's last token predicts nothing."""
    rows = list(rows)
    documents = [document for row in rows for document in row]
    length_D = np.array([len(document.ids) for document in documents], dtype=np.int64)
    first_D = np.array([document.prompt_tokens - 1 for document in documents], dtype=np.int64) * solution_only
    number_D = np.array([number for row in rows for number in range(1, len(row) + 1)], dtype=np.int64)
    row_D = np.arange(len(rows)).repeat([len(row) for row in rows])
    before_D = length_D.cumsum() - length_D  # tokens of earlier documents, of all rows
    begin_R = np.append(before_D, length_D.sum())[np.cumsum([0, *map(len, rows)])[:-1]]
    document_F = np.arange(len(documents)).repeat(length_D)
    position_F = np.arange(len(document_F)) - before_D[document_F]
    place_F = (row_D * row_length + before_D - begin_R[row_D])[document_F] + position_F
    ids_F = np.fromiter(chain.from_iterable(document.ids for document in documents), np.int64, len(document_F))
    labelled_F = (position_F >= first_D[document_F]) & (position_F < length_D[document_F] - 1)
    cells = np.zeros((4, len(rows) * row_length), dtype=np.int64)
    tokens, labels, document, position = cells
    tokens[:], labels[:] = pad_id, IGNORE
    tokens[place_F], document[place_F], position[place_F] = ids_F, number_D[document_F], position_F
    labels[place_F[labelled_F]] = ids_F[1:][labelled_F[:-1]]
    return PackedBatch(*torch.from_numpy(cells).view(4, len(rows), row_length).unbind())
