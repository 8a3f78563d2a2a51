"""Values that several tests share."""

from dataclasses import replace

from datamodules.problems.graph_spec import GraphSpec
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import UpdateSettings
from lightning_modules.policy.trust_region import KLPenalty

TINY = {
    "model_type": "qwen2", "vocab_size": 576, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
PLAIN = GraphSpec(distractors=(0, 0))  # short problems


def grouped(*, group_size=4, resample=0, verify_workers=0, minibatches=1, epochs=1, beta=0.0, kl=KLPenalty(), **settings):
    """Settings of a policy, written flat in tests, as the groups that it takes."""
    return settings | {
        "group": GroupSettings(group_size, resample, verify_workers), "update": UpdateSettings(minibatches, epochs),
        "kl": replace(kl, weight=beta),
    }  # fmt: skip
