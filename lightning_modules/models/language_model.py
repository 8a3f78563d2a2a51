"""Builds and loads the causal language models of `transformers`; the only place that knows checkpoint formats.

Not here: training (pretrain.py, policy/), sampling (rollout/).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.load import _load_distributed_checkpoint
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel


def build_language_model(architecture: Mapping[str, Any]) -> PreTrainedModel:
    """Build a causal LM with fresh weights (on the meta device too).

    Args:
        architecture: `model_type` and keys of that type's transformers config, e.g. {"model_type": "qwen2",
            "hidden_size": 128, ...}.

    Raises:
        ValueError: no model_type, an unknown key, or head counts that do not divide.
    """
    return AutoModelForCausalLM.from_config(_config(dict(architecture)))


def _config(architecture: dict[str, Any]) -> PretrainedConfig:
    kind = architecture.pop("model_type", None)
    where = "`model.init_args.architecture`"
    if kind is None:
        raise ValueError(f"{where} has no model_type; add e.g. `model_type: qwen2`.")
    try:
        known = AutoConfig.for_model(kind)
    except ValueError as err:
        raise ValueError(f"{where}: model_type {kind!r} is unknown to transformers; try qwen2.") from err
    # rope_theta is read by transformers but kept under another name
    unknown = [key for key in architecture if not hasattr(known, key) and key != "rope_theta"]
    if unknown:
        raise ValueError(f"{where}: {unknown} are not keys of {type(known).__name__}; check the spelling.")
    config = AutoConfig.for_model(kind, **architecture)
    hidden, heads = config.hidden_size, config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", heads)  # some types do not share them
    if hidden % heads or heads % shared:
        raise ValueError(
            f"{where}: hidden_size {hidden} must be a multiple of num_attention_heads {heads}, "
            f"and that of num_key_value_heads {shared}."
        )
    return config


def longest_text(config: PretrainedConfig) -> int | None:
    """The number of positions that a model has; None: any, or unknown."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_length(model: PreTrainedModel, length: int) -> None:
    """Refuse a text of `length` tokens if the model has fewer positions.

    Raises:
        ValueError: it has.
    """
    longest = longest_text(model.config)
    if longest is not None and length > longest:
        raise ValueError(
            f"a text of {length} tokens, but the model has {longest} positions; use shorter rows (`data.init_args.row_length`), "
            "or easier problems, or raise `max_position_embeddings` of the model's architecture."
        )


def disable_dropout(model: nn.Module) -> None:
    """Set all rates of dropout to 0, in modules, attributes and configs, where models of transformers keep them."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for place in (module, getattr(module, "config", None)):
            for name, value in list(getattr(place, "__dict__", {}).items()):
                if "drop" in name and isinstance(value, float):
                    setattr(place, name, 0.0)


def load_language_model(init_from: str) -> PreTrainedModel:
    """Open a language model: a Hugging Face folder, or a `.ckpt` (file, or folder of shards) of one of our modules.

    Raises:
        ValueError: neither exists, or the file is not a checkpoint of our modules.
    """
    path = Path(init_from)
    if (path / "config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).train()
    if (path / "meta.pt").is_file():
        checkpoint = _load_distributed_checkpoint(path)
    elif path.is_file():
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    else:
        raise ValueError(
            f"init_from {init_from!r} is neither a Hugging Face folder (with config.json) nor a .ckpt file or folder; "
            "train the earlier stage, or correct `model.init_args.init_from`."
        )
    if "language_model_config" not in checkpoint:
        raise ValueError(f"init_from {init_from!r} was not written by one of our modules; export it to a Hugging Face folder.")
    config = dict(checkpoint["language_model_config"])
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    prefix = "language_model."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    model.load_state_dict(weights)
    return model
