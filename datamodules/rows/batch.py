"""What the loaders hand to the modules. Shapes: B rows or prompts, T tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from datamodules.problems.synthesis import Example

IGNORE = -100  # label of a position that carries no loss (torch.nn.functional.cross_entropy's default)

_ROWWISE = ("tokens_BT", "labels_BT", "document_BT", "position_BT")


@dataclass(slots=True)
class PackedBatch:
    """Rows of whole documents.

    tokens_BT:    int64 ids; padding at the end of a row.
    labels_BT:    the id that position t should predict (already shifted), or IGNORE.
    document_BT:  number of the document a token belongs to, from 1 within its row; 0 is padding.
    position_BT:  position within the document, from 0.
    edges_D:      where documents begin in the flattened rows, for attention that asks for it; None where it does not.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    document_BT: Tensor
    position_BT: Tensor
    edges_D: Tensor | None = None

    def to(self, device: torch.device, **kwargs: bool) -> Self:
        """Move every tensor, as Lightning's transfer asks."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{name: None if v is None else v.to(device, **kwargs) for name, v in values.items()})

    def rows(self, low: int, high: int) -> Self:
        """Rows `low` ... `high - 1`, without copying."""
        return type(self)(*(getattr(self, name)[low:high] for name in _ROWWISE))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of several, one after the other."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _ROWWISE))

    def as_one_document(self) -> Self:
        """The same rows, each as if it were one document: positions run on, and later documents see earlier ones."""
        position_BT = torch.arange(self.position_BT.shape[1], device=self.position_BT.device).expand_as(self.position_BT)
        return replace(self, document_BT=(self.document_BT > 0).long(), position_BT=position_BT)

    @property
    def tokens(self) -> Tensor:
        """Number of real tokens, padding left out."""
        return (self.document_BT > 0).sum()


@dataclass(slots=True)
class PromptBatch:
    """B problems to sample solutions for; `indices` number them within their split.

    repeats: so many at the end are some other process's problems, which only keep processes in step and must not be counted.
    """

    examples: list[Example]
    prompt_ids: list[list[int]]
    indices: list[int]
    repeats: int = 0

    def to(self, device: torch.device, **kwargs: bool) -> Self:
        """Nothing to move: the rollout engine builds its own tensors."""
        return self
