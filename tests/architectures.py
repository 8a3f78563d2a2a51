"""Minute models of many architectures, as `architecture` of a config; those with a sliding window have one of 4 tokens."""

VOCABULARY = {"vocab_size": 576}
GROUPED = VOCABULARY | {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}  # fmt: skip
HEADS = {key: value for key, value in GROUPED.items() if key != "num_key_value_heads"}
GPT = VOCABULARY | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
WINDOW = {"sliding_window": 4}
PAD = {"pad_token_id": 0}
HEAD = {"head_dim": 8}
EXPERTS = {"num_local_experts": 4}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
}  # fmt: skip
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4,
    "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}  # fmt: skip

ARCHITECTURES = {
    "qwen2": GROUPED,
    "qwen2 with a window": GROUPED | WINDOW | {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": GROUPED | HEAD,
    "llama": GROUPED,
    "smollm3": GROUPED | PAD,
    "mistral": GROUPED | {"sliding_window": None},
    "mistral with a window": GROUPED | WINDOW | {"model_type": "mistral"},
    "mixtral with a window": GROUPED | WINDOW | EXPERTS | {"model_type": "mixtral"},
    "phi": GROUPED,
    "phi3 with a window": GROUPED | WINDOW | PAD | {"model_type": "phi3"},
    "starcoder2 with a window": GROUPED | WINDOW | {"model_type": "starcoder2"},
    "gemma": GROUPED | HEAD,
    "gemma2 with a window": GROUPED | WINDOW | HEAD | {"model_type": "gemma2"},
    "gemma3_text with a window": GROUPED | WINDOW | HEAD | {"model_type": "gemma3_text"},
    "olmo2": GROUPED,
    "olmo3 with a window": GROUPED | WINDOW | {"model_type": "olmo3"},
    "granite": GROUPED,
    "cohere": GROUPED,
    "nemotron": GROUPED | HEAD,
    "stablelm": GROUPED,
    "glm": GROUPED | HEAD | PAD,
    "gpt2": GPT,
    "gpt_neox": HEADS,
    "gpt_bigcode": GPT,
    "gptj": GPT | {"rotary_dim": 8},
    "codegen": GPT | {"rotary_dim": 8},
    "gpt_neo": VOCABULARY | {
        "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4,
        "max_position_embeddings": 512,
    },
    "opt": VOCABULARY | {
        "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32,
        "max_position_embeddings": 512,
    },
    "xglm": VOCABULARY | {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": 512},
    "falcon": VOCABULARY | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "bloom": VOCABULARY | {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": VOCABULARY | {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512},
    "deepseek_v3": GROUPED | LATENT,
    "gpt_oss with a window": GROUPED | WINDOW | EXPERTS | HEAD | {"model_type": "gpt_oss"},
    "minimax": GROUPED | EXPERTS | HEAD,
    "qwen3_next": GROUPED | HEAD | LINEAR | {"num_hidden_layers": 4},
    "recurrent_gemma": VOCABULARY | {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "lru_width": 32, "attention_window_size": 8,
    },
    "mamba": VOCABULARY | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "mamba2": VOCABULARY | {
        "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "head_dim": 16, "num_heads": 4, "n_groups": 1,
    },
    "rwkv": VOCABULARY | {
        "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 64, "context_length": 512,
    },
}  # fmt: skip
ARCHITECTURES = {name: {"model_type": name} | settings for name, settings in ARCHITECTURES.items()}
