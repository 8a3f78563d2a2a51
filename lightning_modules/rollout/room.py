"""Room for the keys and values of completions: how many fit the free memory of a device; the others wait for their turn."""

from transformers import PreTrainedModel

from lightning_modules.models.attending import autocast_dtype
from lightning_modules.models.flops import head_size
from lightning_modules.models.memory import free_bytes

SHARE = 0.5  # of free memory; the rest is for prompts, and for the update if slots outlive the rollout


def slot_bytes(model: PreTrainedModel, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, in the dtype of attention."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * head_size(config) * tokens * autocast_dtype(model).itemsize


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
