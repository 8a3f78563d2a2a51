"""How a model of `transformers` is made to attend by a function of ours, and which models can be."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Make `model` attend by the registered function `name`; its own attention comes back afterwards."""
    own = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = own


def unknown_attention(model: PreTrainedModel) -> str | None:
    """What keeps a model from attending by a function of ours; None: nothing."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        return f"layers of {sorted(kinds)}"
    return None if model._supports_attention_backend else "an attention of its own"


def changed_attention(arguments: Mapping[str, object]) -> list[str]:
    """Arguments of an attention function that change what it computes in ways that ours do not know."""
    return [name for name in ("softcap", "s_aux") if arguments.get(name) is not None]
