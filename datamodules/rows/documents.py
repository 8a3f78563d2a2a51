"""Documents and prompts as token ids: an example written in the training format (`training_text.py`), EOS after.

Not here: which documents share a row (`windows.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from datamodules.problems.synthesis import Example
from datamodules.rows.batch import IGNORE, PackedBatch, PromptBatch


class Text(Protocol):
    """What a document is made of; an `Example` is one."""

    @property
    def prompt(self) -> str:
        """What a model is given."""

    @property
    def response(self) -> str:
        """What it should write."""


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids of prompt, response and EOS; the first `prompt_tokens` of them are the prompt."""

    ids: list[int]
    prompt_tokens: int


def encode(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> list[Document]:
    """Tokenize texts. Special tokens bound both parts, so they can be tokenized apart."""
    ids = token_ids([text.prompt for text in texts] + [text.response for text in texts], tokenizer)
    end = tokenizer.eos_token_id
    return [Document([*p, *r, end], len(p)) for p, r in zip(ids[: len(texts)], ids[len(texts) :], strict=True)]


def encode_prompts(examples: list[Example], indices: list[int], tokenizer: PreTrainedTokenizerBase) -> PromptBatch:
    """Tokenize the prompts of examples."""
    return PromptBatch(examples, token_ids([e.prompt for e in examples], tokenizer), indices)


def token_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Ids of each text, without offsets and masks: that makes it twice as fast as calling the tokenizer."""
    return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def collate(rows: Iterable[Sequence[Document]], row_length: int, pad_id: int, *, solution_only: bool) -> PackedBatch:
    """Lay documents out in rows; see PackedBatch. A document's last token predicts nothing."""
    rows = list(rows)
    shape, order_T = (len(rows), row_length), torch.arange(row_length)
    batch = PackedBatch(
        tokens_BT=torch.full(shape, pad_id), labels_BT=torch.full(shape, IGNORE),
        document_BT=torch.zeros(shape, dtype=torch.int64), position_BT=torch.zeros(shape, dtype=torch.int64),
    )  # fmt: skip
    for r, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row, start=1):
            stop = start + len(document.ids)
            first = start + document.prompt_tokens - 1 if solution_only else start
            batch.tokens_BT[r, start:stop] = torch.tensor(document.ids)
            batch.labels_BT[r, first : stop - 1] = batch.tokens_BT[r, first + 1 : stop]
            batch.document_BT[r, start:stop] = number
            batch.position_BT[r, start:stop] = order_T[: stop - start]
            start = stop
    return batch
