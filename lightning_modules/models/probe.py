"""Asks a model, before it is used, whether a faster or packed computation gives what each text by itself gives.

A library of models promises little about masks: a model may ignore them, look at neighbours in a packed row, or at the future. So
every computation that is not the plain one is tried on a few random tokens, on the real weights, device and precision.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.models.attending import attending, autocast_dtype, own_attention

Check = Callable[..., str | None]  # of a model: what is wrong, or None
_FOUND: WeakKeyDictionary[PreTrainedModel, dict[Any, str | None]] = WeakKeyDictionary()


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
