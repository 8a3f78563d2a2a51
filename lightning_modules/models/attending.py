"""Makes a model of `transformers` attend by a function of this project, and says what its own attention asks for.

A function of this project needs to know more than queries, keys and values: where documents end, which rows share a prompt. Some
models do not pass keyword arguments on to their attention, so it reads this from `state()`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

_STATE: ContextVar[object] = ContextVar("what the attention function under way needs", default=None)
state: Callable[[], Any] = _STATE.get


def autocast_dtype(x: Tensor | PreTrainedModel) -> torch.dtype:
    """The dtype of matrix products of `x` here."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@contextmanager
def attending(model: PreTrainedModel, name: str, needs: object = None) -> Iterator[None]:
    """Make `model` attend by the registered function `name`, whose `state()` is `needs`; then restore its attention."""
    own, before = model.config._attn_implementation, _STATE.set(needs)
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = own
        _STATE.reset(before)


def own_attention(model: PreTrainedModel) -> str:
    """The attention of `transformers` itself: with SDPA where the model supports it."""
    return "sdpa" if model._supports_sdpa else "eager"


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep the inputs of layers alone, and recompute the rest in the backward pass, attending as in the forward pass.

    The backward pass runs when `attending` has ended, maybe in another thread, so each layer remembers how it attended.
    """

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), attending(model, model.config._attn_implementation, state())

    # the newer name came with transformers 5.2x
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False, "context_fn": contexts})


def attention_window(config: PretrainedConfig) -> int | None:
    """The number of tokens, itself included, that a token sees in layers with a sliding window; None: no layer has one."""
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    slides = getattr(config, "use_sliding_window", True) and (kinds is None or "sliding_attention" in kinds)
    return getattr(config, "sliding_window", None) if slides else None


def attention_dropout(config: PretrainedConfig) -> float:
    """The rate at which attention weights are dropped in training; models name it differently."""
    rates = [rate for name, rate in vars(config.get_text_config()).items() if name.startswith("att") and "drop" in name]
    return max((rate for rate in rates if isinstance(rate, float)), default=0.0)


def strange_attention(model: PreTrainedModel) -> str | None:
    """Why a model cannot attend by a function of this project; None: it may (see probe.py)."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of {sorted(kinds)}"
    return None if model._supports_attention_backend else "a special attention"


def changed_attention(arguments: Mapping[str, object]) -> list[str]:
    """Arguments of an attention function that change its result in ways the project's functions do not support."""
    return [name for name in ("softcap", "s_aux") if arguments.get(name) is not None]
