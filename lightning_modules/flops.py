"""Floating-point operations of a decoder's forward pass, from its config: multiply-adds of matrix products, counted as two."""

from collections.abc import Mapping
from typing import Any

KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def countable(config: Mapping[str, Any]) -> bool:
    """Whether the operations of a model with this config are known."""
    return all(config.get(key) is not None for key in KEYS)


def layer_parameters(config: Mapping[str, Any]) -> int:
    """Weights of the matrix products of all layers: attention and gated MLP, embeddings left out (the paper's P).

    Raises:
        ValueError: the config is not of a decoder with attention and a gated MLP.
    """
    if not countable(config):
        raise ValueError(f"flops: counted for Llama-like decoders (Qwen2, Llama ...), whose config has all of {KEYS}.")
    width, inner, layers, heads = (config[key] for key in KEYS)
    size = config.get("head_dim") or width // heads
    shared = config.get("num_key_value_heads") or heads
    return layers * (2 * width * heads * size + 2 * width * shared * size + 3 * width * inner)


def forward_flops(config: Mapping[str, Any], *, tokens: float, context: float) -> float:
    """FLOPs of a forward pass with logits.

    Args:
        config: the transformers config as a dict.
        tokens: tokens processed.
        context: tokens that each of them attends to, on average, itself included.
    """
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    products = layer_parameters(config) + config["hidden_size"] * config["vocab_size"]
    attention = 2 * config["num_hidden_layers"] * heads * size * context  # scores, and values weighted by them
    return 2.0 * tokens * (products + attention)
