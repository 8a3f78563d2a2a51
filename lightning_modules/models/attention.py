"""Attention within documents, by any of several backends: packed documents do not see each other.

A backend tells `transformers` where documents end. All give the same logits; they differ in requirements and cost:
    sdpa               positions, from which transformers makes its masks; runs everywhere, in any precision
    mask               a [B, 1, T, T] mask; runs everywhere, for models that make none from positions
    documents          computes neither padding nor unlabelled logits (document_forward.py); shapes change with each batch
    flex_attention     a block mask; blocks between documents are skipped; GPU (on a CPU forward only)
    varlen             document boundaries, for torch.nn.attention.varlen (PyTorch 2.11 or later); GPU, 16 bit
    flash_attention_2  the same boundaries, for the `flash-attn` package; GPU, 16 bit
Not here: the loss (pretrain.py), sampling, which has other masks (rollout/).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from transformers import AttentionInterface, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from datamodules.rows.documents import IGNORE, Document, collate
from lightning_modules.models.attending import attending, attention_dropout, attention_window, own_attention, strange_attention
from lightning_modules.models.document_forward import DOCUMENTS, document_logits
from lightning_modules.models.probe import differs, future_fault, once, plain_logits, texts

AttentionName = Literal["auto", "sdpa", "mask", "documents", "flex_attention", "varlen", "flash_attention_2"]
TRIED = ((5, 7), (7, 2), (9,))  # lengths of the documents in packed rows of a trial
EDGES_MULTIPLE = 128  # lengths of `edges_D` are rounded up to it, so that compiled code sees few shapes


def document_edges(document_BT: Tensor) -> Tensor:
    """Starts of documents in the flattened rows, and the end of the last; a row's padding counts as a document.

    Args:
        document_BT: [B, T] document numbers.

    Returns:
        int32 [D], rising from 0 to B*T; the end is repeated (as empty documents) up to a multiple of EDGES_MULTIPLE.
    """
    first_BT = torch.ones_like(document_BT, dtype=torch.bool)
    first_BT[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    starts_D = first_BT.flatten().nonzero().squeeze(1)
    padding = -(len(starts_D) + 1) % EDGES_MULTIPLE
    ends = starts_D.new_full((1 + padding,), document_BT.numel())
    return torch.cat([starts_D, ends]).to(torch.int32)


def stacked_edges(edges: Sequence[Tensor]) -> Tensor:
    """[P, D] edges of P parts; the end of a part is repeated, as in `document_edges`."""
    longest = max(map(len, edges))
    return torch.stack([torch.cat([edges_D, edges_D[-1:].expand(longest - len(edges_D))]) for edges_D in edges])


class Backend(ABC):
    """Tells a model of `transformers` how to attend within documents."""

    name: str
    needs_edges = False

    def __str__(self) -> str:
        return self.name

    def attending(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Let `model` attend by this backend."""
        return attending(model, self.name)

    def edges(self, document_BT: Tensor) -> Tensor | None:
        """What `arguments` needs, found best before the batch is on its device."""
        return document_edges(document_BT) if self.needs_edges else None

    @abstractmethod
    def arguments(self, document_BT: Tensor, edges_D: Tensor | None) -> dict[str, Any]:
        """Further arguments of `logits`; `edges_D` is from `edges`."""

    def logits(
        self, model: PreTrainedModel, tokens_BT: Tensor, labels_BT: Tensor, position_BT: Tensor, **where: Any
    ) -> tuple[Tensor, Tensor]:
        """[N, V] logits and [N] labels, in the order of the rows; N = B T, or the number of labels."""
        if "position_ids" in signature(model.forward).parameters:
            where["position_ids"] = position_BT
        logits_BTV = model(input_ids=tokens_BT, use_cache=False, **where).logits
        return logits_BTV.flatten(0, 1), labels_BT.flatten()


class SDPA(Backend):
    """The model's attention as it is: transformers takes positions that start again for the start of a document."""

    name = "sdpa"

    def attending(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Let `model` attend by scaled_dot_product_attention, or written out where it does not support that."""
        return attending(model, own_attention(model))

    def arguments(self, document_BT: Tensor, edges_D: Tensor | None = None) -> dict[str, Any]:
        """None: positions say it all."""
        return {}


class Mask(SDPA):
    """The model's attention with an explicit mask, which it adds to its scores."""

    name = "mask"

    def arguments(self, document_BT: Tensor, edges_D: Tensor | None = None) -> dict[str, Any]:
        """[B, 1, T, T]: 0 where the query (third axis) may look at the key (last axis), a token of its document up to it."""
        seen_BTT = (document_BT[:, :, None] == document_BT[:, None, :]).tril()
        barrier = torch.finfo(torch.float32).min
        return {"attention_mask": torch.zeros(seen_BTT.shape, device=seen_BTT.device).masked_fill(~seen_BTT, barrier)[:, None]}


class Documents(Backend):
    """The documents of each length as one batch, without padding and without logits of unlabelled positions."""

    name = DOCUMENTS

    def arguments(self, document_BT: Tensor, edges_D: Tensor | None = None) -> dict[str, Any]:
        """The numbers of the documents."""
        return {"document_BT": document_BT}

    def logits(
        self, model: PreTrainedModel, tokens_BT: Tensor, labels_BT: Tensor, position_BT: Tensor, **where: Any
    ) -> tuple[Tensor, Tensor]:
        """[N, V] logits of positions with a label, and the [N] labels."""
        return document_logits(model, tokens_BT, labels_BT, position_BT, **where)


class Flex(Backend):
    """FlexAttention with a block mask (arXiv:2412.05496)."""

    name = "flex_attention"

    def arguments(self, document_BT: Tensor, edges_D: Tensor | None = None) -> dict[str, Any]:
        """The block mask."""
        (rows, length), device = document_BT.shape, document_BT.device

        def same_document(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (document_BT[row, query] == document_BT[row, key])

        return {"attention_mask": create_block_mask(same_document, rows, None, length, length, device=device)}


class Flash(Backend):
    """FlashAttention-2 on all documents of the batch side by side (arXiv:2307.08691)."""

    name = "flash_attention_2"
    needs_edges = True

    def arguments(self, document_BT: Tensor, edges_D: Tensor | None) -> dict[str, Any]:
        """The boundaries. The longest document counts as a whole row, which costs nothing and needs no synchronisation."""
        longest = document_BT.shape[1]
        return {"cu_seq_lens_q": edges_D, "cu_seq_lens_k": edges_D, "max_length_q": longest, "max_length_k": longest}


class Varlen(Flash):
    """The same by PyTorch's kernels."""

    name = "varlen"


def _varlen_kernel() -> tuple[Callable[..., Tensor] | None, bool]:
    """PyTorch's `varlen_attn`, if it takes what `varlen_attention` gives it, and whether heads may share keys (2.12 or later)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, False
    known = signature(varlen_attn).parameters.keys()
    return (varlen_attn, "enable_gqa" in known) if {"scale", "window_size"} <= known else (None, False)


def varlen_attention(
    module: torch.nn.Module, query_BHTE: Tensor, key_BKTE: Tensor, value_BKTE: Tensor, attention_mask: Tensor | None = None,
    scaling: float | None = None, cu_seq_lens_q: Tensor | None = None, max_length_q: int = 0, sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention within documents, as an attention function of `transformers`; shapes [B, heads, T, head size].

    Raises:
        ValueError: a mask or no boundaries, as this backend is for packed training rows only.
    """
    if cu_seq_lens_q is None or attention_mask is not None:
        raise ValueError("attention `varlen` needs document boundaries and no mask; use `sdpa` outside packed training rows.")
    kernel, grouping = _varlen_kernel()
    rows, heads, length, size = query_BHTE.shape
    dtype = value_BKTE.dtype  # under autocast rotated queries and keys are float32, values 16 bit
    query, key, value = (x.transpose(1, 2).reshape(-1, x.shape[1], size).to(dtype) for x in (query_BHTE, key_BKTE, value_BKTE))
    shared = heads // key.shape[1]
    if shared > 1 and not grouping:
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    out = kernel(
        query, key, value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0), **({"enable_gqa": shared > 1} if grouping else {}),
    )  # fmt: skip
    return out.view(rows, length, heads, size), None


AttentionInterface.register("varlen", varlen_attention)

BACKENDS: dict[str, type[Backend]] = {kind.name: kind for kind in (SDPA, Mask, Documents, Flex, Varlen, Flash)}
PREFERRED = ("flash_attention_2", "varlen", "flex_attention", "documents", "sdpa", "mask")


def missing(name: str, device: torch.device, *, half: bool) -> str | None:
    """Why backend `name` cannot train on `device`, in 16 bit (`half`) or not; None: it can."""
    if name in ("sdpa", "mask", DOCUMENTS):
        return None
    if device.type != "cuda":
        return f"it trains on a CUDA device, not on {device.type}"
    if name == "flex_attention":
        return None
    if not half:
        return "it computes in 16 bit only; set `trainer.precision` to bf16-mixed"
    if name == "varlen":
        return None if _varlen_kernel()[0] else f"PyTorch {torch.__version__} has no varlen_attn with `scale` and `window_size`"
    return None if is_flash_attn_2_available() else "the package `flash-attn` is not installed"


@once
def packed_fault(model: PreTrainedModel, backend: Backend) -> str | None:
    """Why packed documents do not get the logits that each gets by itself."""
    ids = iter(texts(model, [length for row in TRIED for length in row]))
    rows = [[Document(next(ids), 1) for _ in row] for row in TRIED]
    batch = collate(rows, max(map(sum, TRIED)), 0, solution_only=False)
    document_BT = batch.document_BT.to(model.device)
    with backend.attending(model):
        where = backend.arguments(document_BT, backend.edges(document_BT))
        inputs = (x.to(model.device) for x in (batch.tokens_BT, batch.labels_BT, batch.position_BT))
        logits_NV, labels_N = backend.logits(model, *inputs, **where)
    expected = torch.cat([plain_logits(model, document.ids)[:-1] for row in rows for document in row])
    return "packed documents see each other" if differs(logits_NV[labels_N != IGNORE], expected, expected) else None


def unsuitable(name: str, model: PreTrainedModel, *, compiled: bool, packed: bool) -> str | None:
    """Why backend `name` cannot train `model`; None: it can, as a trial on the model itself shows if rows are packed."""
    if name == DOCUMENTS and compiled:
        return "its shapes change from batch to batch, and each would be compiled; leave out `compile`"
    if name in (DOCUMENTS, "varlen", "flex_attention") and (what := strange_attention(model)):
        return f"{model.config.model_type} has {what}"
    if name in ("varlen", "flex_attention") and attention_dropout(model.config):
        return "the model drops attention weights in training; set its attention dropout to 0 for this backend"
    if name in ("flex_attention", "mask") and attention_window(model.config):
        return "the model attends to a sliding window"
    return packed_fault(model, BACKENDS[name]()) if packed or name != "sdpa" else None


def backend_of_edges(model: PreTrainedModel, device: torch.device, *, half: bool) -> Backend | None:
    """The first backend for texts side by side that only need their boundaries; None: none works here."""
    for kind in (BACKENDS[name] for name in PREFERRED):
        if kind.needs_edges and not (
            missing(kind.name, device, half=half) or unsuitable(kind.name, model, compiled=False, packed=True)
        ):  # fmt: skip
            return kind()
    return None


def choose_backend(
    name: AttentionName, device: torch.device, *, half: bool, model: PreTrainedModel | None = None, compiled: bool = False,
    packed: bool = True,
) -> Backend:  # fmt: skip
    """Return a backend that works; `auto` takes the first of PREFERRED that does.

    Args:
        name: of a backend, or "auto".
        device: of training.
        half: whether training is in 16 bit.
        model: the model to train, on the device; None: any.
        compiled: whether the loss is compiled.
        packed: whether documents of a row must not see each other.

    Raises:
        ValueError: the backend does not work here, or none does.
    """
    if model is not None and (fault := future_fault(model)):
        raise ValueError(f"{model.config.model_type} cannot learn to predict the next token: {fault}.")
    reasons: dict[str, str] = {}
    for one in PREFERRED if name == "auto" else (name,):
        found = missing(one, device, half=half)
        if not found and model is not None:
            found = unsuitable(one, model, compiled=compiled, packed=packed)
        if not found:
            return BACKENDS[one]()
        reasons[one] = found
    if name != "auto":
        raise ValueError(f"`model.init_args.attention`: {name} cannot be used: {reasons[name]}. Choose `auto` or `sdpa`.")
    raise ValueError(
        f"{model.config.model_type} cannot keep packed documents apart (sdpa: {reasons['sdpa']}; mask: {reasons['mask']}); set "
        "`model.init_args.document_mask: false`, with which documents see earlier ones of their row."
    )
