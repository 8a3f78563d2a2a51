"""Values that several tests share."""

from dataclasses import replace

import torch
from torch.nn.functional import scaled_dot_product_attention

from datamodules.problems.graph_spec import GraphSpec
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import UpdateSettings
from lightning_modules.policy.trust_region import KLPenalty

TINY = {
    "model_type": "qwen2", "vocab_size": 576, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
PLAIN = GraphSpec(distractors=(0, 0))  # short problems


def by_document(query, key, value, edges, *args, scale, window_size, enable_gqa):
    """Stands for torch.nn.attention.varlen.varlen_attn: each document by itself; [F, heads, size]."""
    parts = [
        scaled_dot_product_attention(
            *(x[a:b].transpose(0, 1)[None] for x in (query, key, value)), is_causal=True, scale=scale, enable_gqa=enable_gqa
        )[0].transpose(0, 1)
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True) if b > a
    ]  # fmt: skip
    return torch.cat(parts)


def grouped(*, group_size=4, resample=0, verify_workers=0, minibatches=1, epochs=1, beta=0.0, kl=KLPenalty(), **settings):
    """Settings of a policy, written flat in tests, as the groups that it takes."""
    return settings | {
        "group": GroupSettings(group_size, resample, verify_workers), "update": UpdateSettings(minibatches, epochs),
        "kl": replace(kl, weight=beta),
    }  # fmt: skip
