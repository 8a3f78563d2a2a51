"""Asks a model, before it is used, whether a faster or packed computation gives what each text by itself gives.

A library of models promises little about masks: a model may ignore them, look at neighbours in a packed row, or at the future. So
every computation that is not the plain one is tried on a few random tokens, on the real weights, device and precision.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from datamodules.rows.documents import IGNORE, Document, collate
from lightning_modules.models.attending import attending, autocast_dtype, own_attention

Check = Callable[..., str | None]  # of a model: what is wrong, or None
ROWS = ((5, 7), (7, 2), (9,))  # lengths of the documents in packed rows
_FOUND: WeakKeyDictionary[PreTrainedModel, dict[Any, str | None]] = WeakKeyDictionary()


class PackedForward(Protocol):
    """A backend of attention, as far as it is asked (attention.py)."""

    def edges(self, document_BT: Tensor) -> Tensor | None: ...  # noqa: D102

    def arguments(self, document_BT: Tensor, edges_D: Tensor | None) -> dict[str, Any]: ...  # noqa: D102

    def attending(self, model: PreTrainedModel) -> AbstractContextManager[None]: ...  # noqa: D102

    def logits(  # noqa: D102
        self, model: PreTrainedModel, tokens_BT: Tensor, labels_BT: Tensor, position_BT: Tensor, **where: Any
    ) -> tuple[Tensor, Tensor]: ...


def once(check: Check) -> Check:
    """Run a check once for each model, place and precision, in evaluation mode; an error of the model is a fault too."""

    @wraps(check)
    def ask(model: PreTrainedModel, *what: Any) -> str | None:
        known, key = _FOUND.setdefault(model, {}), (check.__qualname__, *map(str, what), model.device, autocast_dtype(model))
        if key not in known:
            modes = {module: module.training for module in model.modules()}
            model.eval()
            try:
                with torch.no_grad():
                    known[key] = check(model, *what)
            except Exception as err:  # noqa: BLE001 (code of a foreign model may raise anything)
                known[key] = f"it raises {type(err).__name__}: {err}"
            for module, training in modes.items():
                module.training = training
        return known[key]

    return ask


def differs(found: Tensor, expected: Tensor, spread: Tensor) -> bool:
    """Whether logits or log-probabilities differ by more than rounding, relative to the spread of logits."""
    tolerance = 1e-3 if spread.dtype == torch.float32 else 0.1
    gap = (found.float() - expected.float()).abs().max()
    return bool(expected.isfinite().all()) and not bool(gap <= tolerance * spread.float().std())


def texts(model: PreTrainedModel, lengths: Sequence[int]) -> list[list[int]]:
    """Random token ids, equal at every call."""
    rows, draw = model.get_input_embeddings().num_embeddings, torch.Generator().manual_seed(0)
    return [torch.randint(rows, (length,), generator=draw).tolist() for length in lengths]


def plain_logits(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """[T, V] logits of one text by itself, by the attention of `transformers`."""
    with attending(model, own_attention(model)):
        return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]


@once
def future_fault(model: PreTrainedModel) -> str | None:
    """Why the plain forward pass is not causal."""
    (ids,) = texts(model, [9])
    seen = plain_logits(model, ids)
    other = plain_logits(model, [*ids[:-1], (ids[-1] + 1) % len(seen[0])])
    return "it sees later tokens" if differs(other[:-1], seen[:-1], seen) else None


@once
def packed_fault(model: PreTrainedModel, backend: PackedForward) -> str | None:
    """Why packed documents do not get the logits that each gets by itself."""
    ids = iter(texts(model, [length for row in ROWS for length in row]))
    rows = [[Document(next(ids), 1) for _ in row] for row in ROWS]
    batch = collate(rows, max(map(sum, ROWS)), 0, solution_only=False)
    document_BT = batch.document_BT.to(model.device)
    with backend.attending(model):
        where = backend.arguments(document_BT, backend.edges(document_BT))
        inputs = (x.to(model.device) for x in (batch.tokens_BT, batch.labels_BT, batch.position_BT))
        logits_NV, labels_N = backend.logits(model, *inputs, **where)
    expected = torch.cat([plain_logits(model, document.ids)[:-1] for row in rows for document in row])
    return "packed documents see each other" if differs(logits_NV[labels_N != IGNORE], expected, expected) else None
