"""Room for the keys and values of completions: how many fit the free memory of a device; the others wait for their turn."""

import torch
from transformers import PreTrainedModel

from lightning_modules.models.memory import free_bytes

SHARE = 0.5  # of free memory; the rest is for prompts, and for the update if slots outlive the rollout


def slot_bytes(model: PreTrainedModel, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, in the dtype of attention."""
    config, kind = model.config.get_text_config(), model.device.type
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
    return 2 * config.num_hidden_layers * heads * size * tokens * dtype.itemsize


def slots_that_fit(model: PreTrainedModel, tokens: int, wanted: int) -> int:
    """As many slots of `tokens` each as there is room for, at most `wanted`, which a CPU always gets.

    Raises:
        ValueError: not one fits.
    """
    if model.device.type != "cuda":
        return wanted
    free, each = free_bytes(model.device), slot_bytes(model, tokens)
    if (fitting := int(SHARE * free / each)) < 1:
        raise ValueError(
            f"a completion of up to {tokens} tokens needs {each / 2**20:,.0f} MiB, of {free / 2**20:,.0f} that are free on "
            f"{model.device}; lower `sampling.max_new_tokens`, or use a larger device."
        )
    return min(wanted, fitting)
