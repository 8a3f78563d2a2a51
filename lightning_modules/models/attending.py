"""Makes a model of `transformers` attend by a function of this project, and says which models can."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Make `model` attend by the registered function `name`, then restore its attention."""
    own = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = own


def unknown_attention(model: PreTrainedModel) -> str | None:
    """Why a model cannot attend by a function of this project; None: it can."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        return f"layers of {sorted(kinds)}"
    return None if model._supports_attention_backend else "a special attention"


def changed_attention(arguments: Mapping[str, object]) -> list[str]:
    """Arguments of an attention function that change its result in ways the project's functions do not support."""
    return [name for name in ("softcap", "s_aux") if arguments.get(name) is not None]
