"""Values that several tests share."""

from datamodules.problems.graph_spec import GraphSpec

TINY = {
    "model_type": "qwen2", "vocab_size": 576, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
PLAIN = GraphSpec(distractors=(0, 0))  # short problems
