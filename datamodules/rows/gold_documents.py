"""Held-out problems with gold solutions as packed documents; each token is labelled by operations, context and kind.

Not here: the loss by these labels (`lightning_modules/metrics/gold_loss.py`), sampling solutions (`reasoning.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.problems.synthesis import Example
from datamodules.rows.documents import Document, PackedBatch, collate, encode
from datamodules.rows.token_kinds import TOKEN_KINDS, response_token_kinds
from datamodules.rows.windows import pack

LABEL_KINDS = (*TOKEN_KINDS, "prompt")


@dataclass(slots=True, kw_only=True)
class GoldBatch(PackedBatch):
    """Packed documents; each position is labelled by the token that it predicts.

    op_BT:      operations of the problem.
    context_BT: number of its context.
    kind_BT:    number of the kind (`LABEL_KINDS`) of the token to predict.
    """

    op_BT: Tensor
    context_BT: Tensor
    kind_BT: Tensor


class GoldDocuments:
    """A loader of GoldBatches; every process gets the same number, padded with empty rows."""

    def __init__(
        self, examples: Sequence[Example], contexts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, row_length: int,
        batch_rows: int, solution_only: bool, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        """Pack the documents.

        Args:
            examples: problems; those without a gold solution are left out.
            contexts: names of their contexts, by number.
            tokenizer: turns them into ids.
            row_length: tokens of a row; more if a document needs it.
            batch_rows: rows of a batch.
            solution_only: only tokens after the prompt carry a loss.
            rank: number of this process.
            world: number of processes.
        """
        examples = [example for example in examples if example.solution]
        documents = encode(examples, tokenizer)
        labels = [
            torch.tensor([(e.cell.op, contexts.index(e.cell.context), kind) for kind in _label_kinds(e, d, tokenizer)])
            for e, d in zip(examples, documents, strict=True)
        ]
        self.row_length = max([row_length, *(len(d.ids) for d in documents)])
        self.pad_id, self.solution_only = tokenizer.pad_token_id, solution_only
        rows = [[(documents[i], labels[i]) for i in row] for row in pack([len(d.ids) for d in documents], self.row_length)]
        rows += [[] for _ in range(-len(rows) % (world * batch_rows))]
        own = rows[rank::world]
        self.batches = [self._collate(own[i : i + batch_rows]) for i in range(0, len(own), batch_rows)]

    def __iter__(self) -> Iterator[GoldBatch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def _collate(self, rows: Sequence[Sequence[tuple[Document, Tensor]]]) -> GoldBatch:
        documents = [[document for document, _ in row] for row in rows]
        packed = collate(documents, self.row_length, self.pad_id, solution_only=self.solution_only)
        label_BT3 = torch.zeros(len(rows), self.row_length, 3, dtype=torch.int64)
        for r, row in enumerate(rows):
            start = 0
            for _, label_L3 in row:
                label_BT3[r, start : start + len(label_L3)] = label_L3
                start += len(label_L3)
        op_BT, context_BT, kind_BT = label_BT3.unbind(-1)
        return GoldBatch(
            tokens_BT=packed.tokens_BT, labels_BT=packed.labels_BT, document_BT=packed.document_BT,
            position_BT=packed.position_BT, op_BT=op_BT, context_BT=context_BT, kind_BT=kind_BT,
        )  # fmt: skip


def _label_kinds(example: Example, document: Document, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The kind of token that each position predicts; EOS is fixed wording, and the last position predicts nothing."""
    prompt, other = LABEL_KINDS.index("prompt"), LABEL_KINDS.index("other")
    response = [LABEL_KINDS.index(kind) for kind in response_token_kinds(example, tokenizer)]
    kinds = [prompt] * document.prompt_tokens + response + [other]
    assert len(kinds) == len(document.ids)
    return [*kinds[1:], other]
