"""Log-probabilities of given tokens under a language model, with a part of its logits at a time.

Logits of a large batch take more memory than the rest of a model with many words. So the model is run without its head, and the
head is applied to a few rows at a time; the backward pass computes their logits again, which costs one product of matrices more.
Whole logits are used where they are few, by a compiled loss, which fuses what follows them, and by models that do more with
logits than their head does (`head_fault`). Shapes: N positions, V vocabulary, H hidden size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from datamodules.rows.documents import IGNORE
from lightning_modules.models.attending import autocast_dtype
from lightning_modules.models.probe import differs, once, plain_logits, texts

LOGITS_AT_ONCE = 1 << 26  # 256 MiB in float32


@dataclass(slots=True)
class Head:
    """The linear layer from hidden states to logits, as it was at the model's last forward pass; None before that."""

    weight_VH: Tensor | None = None
    bias_V: Tensor | None = None


def fits_whole(model: PreTrainedModel, positions: int) -> bool:
    """Whether the logits of so many positions may exist at once."""
    return positions * model.config.get_text_config().vocab_size <= LOGITS_AT_ONCE


@contextmanager
def headless(model: PreTrainedModel) -> Iterator[Head]:
    """Within, the `logits` of `model` are the hidden states that its head would have got.

    Its forward pass is otherwise as it is, so that sharded weights are gathered; those of the head stay gathered after it.
    """
    layer, head = model.get_output_embeddings(), Head()

    def keep(hidden: Tensor) -> Tensor:
        head.weight_VH, head.bias_V = layer.weight, layer.bias
        return hidden.to(autocast_dtype(hidden))

    layer.forward = keep
    try:
        yield head
    finally:
        del layer.forward


def scored(
    model: PreTrainedModel, forward: Callable[[], Tensor], label_N: Tensor, *, whole: bool = False, **settings: Any
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`label_scores` of what `forward` returns, the [N, V] logits of a pass of `model`, which exist at once only if they are few.

    whole: they must exist, as `head_fault` says or for a compiler.
    """
    if whole or fits_whole(model, len(label_N)):
        return label_scores(forward(), label_N, None, **settings)
    with headless(model) as head:
        states_NH = forward()
    return label_scores(states_NH, label_N, head, **settings)


def label_scores(
    outputs_NX: Tensor, label_N: Tensor, head: Head | None, *, temperature: float = 1.0, mass: bool = False
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Log-probability of each label, 0 for IGNORE, and if `mass` the logarithm of the softmax denominator: [N] nats.

    Args:
        outputs_NX: [N, V] logits or, with a `head`, [N, H] hidden states.
        label_N: ids or IGNORE.
        head: see `headless`; None: `outputs_NX` are logits.
        temperature: divides logits.
        mass: whether denominators are needed.
    """
    if head is not None:
        dtype = autocast_dtype(outputs_NX)
        return _PartByPart.apply(outputs_NX, head.weight_VH, head.bias_V, label_N, temperature, dtype)
    logits_NV = outputs_NX.float()
    logits_NV = logits_NV if temperature == 1 else logits_NV / temperature
    nll_N = cross_entropy(logits_NV, label_N, ignore_index=IGNORE, reduction="none")
    return -nll_N, logits_NV.logsumexp(-1) if mass else None


class _PartByPart(torch.autograd.Function):
    """log softmax(W h / temperature) of labels; gradients recompute the logits of a part from its states."""

    @staticmethod
    def _parts(hidden_NH: Tensor, weight_VH: Tensor, label_N: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(rows, their states, [n, 1] their labels, 0 for IGNORE)."""
        step = max(1, LOGITS_AT_ONCE // len(weight_VH))
        for start in range(0, len(hidden_NH), step):
            rows = slice(start, start + step)
            yield rows, hidden_NH[rows], label_N[rows, None].clamp(min=0)

    @staticmethod
    def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
        logits = linear(hidden, weight, bias).float()
        return logits if temperature == 1 else logits.div_(temperature)

    @staticmethod
    def forward(ctx, hidden_NH, weight_VH, bias_V, label_N, temperature, dtype):  # noqa: ANN001, ANN205
        logp_N, mass_N = hidden_NH.new_empty((2, len(hidden_NH)), dtype=torch.float32)
        with torch.autocast(hidden_NH.device.type, enabled=False):
            weight, bias = weight_VH.to(dtype), None if bias_V is None else bias_V.to(dtype)
            for rows, hidden, label in _PartByPart._parts(hidden_NH, weight, label_N):
                logits = _PartByPart._logits(hidden.to(dtype), weight, bias, temperature)
                mass_N[rows] = logits.logsumexp(-1)
                logp_N[rows] = logits.gather(1, label).squeeze(1) - mass_N[rows]
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, label_N, mass_N)
        ctx.temperature, ctx.dtype = temperature, dtype
        return torch.where(label_N == IGNORE, 0.0, logp_N), mass_N

    @staticmethod
    def backward(ctx, grad_logp_N, grad_mass_N):  # noqa: ANN001, ANN205
        hidden_NH, weight_VH, bias_V, label_N, mass_N = ctx.saved_tensors
        grad_logp_N = torch.where(label_N == IGNORE, 0.0, grad_logp_N)
        grad_hidden = torch.empty_like(hidden_NH)
        grad_weight = torch.zeros_like(weight_VH, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None else None
        with torch.autocast(hidden_NH.device.type, enabled=False):
            weight, bias = weight_VH.to(ctx.dtype), None if bias_V is None else bias_V.to(ctx.dtype)
            for rows, part, label in _PartByPart._parts(hidden_NH, weight, label_N):
                hidden = part.to(ctx.dtype)
                share = _PartByPart._logits(hidden, weight, bias, ctx.temperature).sub_(mass_N[rows, None]).exp_()
                share.mul_((grad_mass_N[rows] - grad_logp_N[rows])[:, None])
                share.scatter_add_(1, label, grad_logp_N[rows, None])
                grad = share.div_(ctx.temperature).to(ctx.dtype)
                grad_hidden[rows] = grad @ weight
                if grad_weight is not None:
                    grad_weight += grad.T @ hidden
                if grad_bias is not None:
                    grad_bias += grad.sum(0, dtype=torch.float32)
        return grad_hidden, grad_weight, grad_bias, None, None, None


@once
def head_fault(model: PreTrainedModel) -> str | None:
    """Why log-probabilities from the head alone are not those of the model's logits."""
    if type(model.get_output_embeddings()) is not nn.Linear:
        return "its head is not a linear layer"
    (ids,) = texts(model, [9])
    logits_TV, label_T = plain_logits(model, ids), torch.tensor([*ids[1:], IGNORE], device=model.device)
    with headless(model) as head:
        hidden_TH = plain_logits(model, ids)
    found, mass = label_scores(hidden_TH, label_T, head)
    expected, expected_mass = label_scores(logits_TV, label_T, None, mass=True)
    changed = differs(found, expected, logits_TV) or differs(mass, expected_mass, logits_TV)
    return "it changes the logits that its head gives" if changed else None
