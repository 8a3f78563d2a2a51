"""Floating-point operations of a decoder, from its config: pure functions, exact for Qwen2-like models.

Per token, with d = heads * head_dim, d_kv = kv_heads * head_dim, h = hidden_size, f = intermediate_size, V = vocab_size:
    matmul weights  W = layers * (2 h d + 2 h d_kv + 3 h f) + h V      (q and o; k and v; gate, up and down; lm_head)
    forward           = 2 W + layers * 4 d context                     (a multiply and an add each; Q K^T and P V)
    backward          = 2 * forward                                    (gradients of inputs and of weights)
Embedding lookups, norms, biases, rotations and the softmax are left out, as usual (arXiv:2204.02311, appendix B).
Not here: the cost of a stage (compute.py), the speed of a machine (callbacks).
"""

from typing import TypeAlias

from torch import Tensor
from transformers import PretrainedConfig

Number: TypeAlias = float | Tensor


def matmul_parameters(config: PretrainedConfig) -> int:
    """Weights that multiply a token in one forward pass; a tied embedding counts once, as lm_head."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    width, kv_width = heads * head_size(config), config.num_key_value_heads * head_size(config)
    layer = 2 * hidden * width + 2 * hidden * kv_width + 3 * hidden * config.intermediate_size
    return config.num_hidden_layers * layer + hidden * config.vocab_size


def forward_flops(config: PretrainedConfig, *, tokens: Number, context: Number) -> Number:
    """FLOPs of a forward pass, without recomputation.

    Args:
        config: of a decoder with gated MLPs and grouped-query attention (Qwen2, Qwen3, Llama, ...).
        tokens: that pass through the model.
        context: mean tokens that each attends to, itself included: (T + 1) / 2 for causal documents of T tokens.
    """
    attention = 4 * config.num_attention_heads * head_size(config) * context
    return tokens * (2 * matmul_parameters(config) + config.num_hidden_layers * attention)


def training_flops(config: PretrainedConfig, *, tokens: Number, context: Number) -> Number:
    """FLOPs of a forward and a backward pass: 3 times the forward pass; see `forward_flops`."""
    return 3 * forward_flops(config, tokens=tokens, context=context)


def head_size(config: PretrainedConfig) -> int:
    """The width of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
