"""Builds and loads the causal language models of `transformers`; the only place that knows the format of checkpoints.

Not here: training (pretrain.py, policy/), sampling (rollout/).
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import crc32

import torch
from huggingface_hub.errors import StrictDataclassError
from lightning.fabric.utilities.load import _load_distributed_checkpoint
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from datamodules.rows.vocabulary import Vocabulary, entries_in_use
from lightning_modules.models.folder import read_folder
from lightning_modules.models.lora import LoRA, add_adapters, merged


def build_language_model(architecture: Mapping[str, Any]) -> PreTrainedModel:
    """Build a causal LM with fresh weights (on the meta device too).

    Args:
        architecture: `model_type` and keys of that type's transformers config, e.g. {"model_type": "qwen2",
            "hidden_size": 128, ...}.

    Raises:
        ValueError: no model_type, an unknown key, or head counts that do not divide.
    """
    where = "`model.init_args.architecture`"
    config = _config(dict(architecture), where)
    try:
        model = AutoModelForCausalLM.from_config(config)
    except (ValueError, RuntimeError, ArithmeticError, TypeError) as err:
        raise ValueError(f"{where} cannot be built: {_reason(err)}") from err
    if not any(True for _ in model.parameters()) or getattr(config, "num_hidden_layers", 1) < 1:
        raise ValueError(f"{where}: num_hidden_layers must be at least 1.")
    return model


def _reason(err: Exception) -> str:
    """The last line of an error, which says what is wrong."""
    return (str(err).strip() or type(err).__name__).splitlines()[-1].strip()


def _config(architecture: dict[str, Any], where: str) -> PretrainedConfig:
    kind = architecture.pop("model_type", None)
    if kind is None:
        raise ValueError(f"{where} has no model_type; add e.g. `model_type: qwen2`.")
    try:
        known = AutoConfig.for_model(kind)
    except ValueError as err:
        raise ValueError(f"{where}: model_type {kind!r} is unknown to transformers; try qwen2.") from err
    # transformers reads rope_theta, which it keeps under another name, and head_dim, which not every class of configs declares
    unknown = [key for key in architecture if not hasattr(known, key) and key not in ("rope_theta", "head_dim")]
    if unknown:
        raise ValueError(f"{where}: {unknown} are not keys of {type(known).__name__}; check the spelling.")
    try:
        config = AutoConfig.for_model(kind, **architecture)
    except (StrictDataclassError, ValueError, TypeError) as err:
        raise ValueError(f"{where}: {_reason(err)}") from err
    hidden, heads = getattr(config, "hidden_size", 1), getattr(config, "num_attention_heads", 1)  # some types have no heads
    shared = getattr(config, "num_key_value_heads", heads)  # and some do not share keys
    if min(hidden, heads, shared) < 1:
        raise ValueError(f"{where}: hidden_size {hidden} and the numbers of heads, {heads} and {shared}, must be at least 1.")
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
    """Set rates of dropout, and the noise of routers, to 0: in modules, attributes and configs, where transformers keeps them."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for place in (module, getattr(module, "config", None)):
            for name, value in list(getattr(place, "__dict__", {}).items()):
                if any(noise in name for noise in ("drop", "jitter")) and isinstance(value, float):
                    setattr(place, name, 0.0)


def load_language_model(init_from: str, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
    """Open a language model: a Hugging Face folder, or a `.ckpt` (file, or folder of shards) of one of our modules.

    Args:
        init_from: the folder or file.
        tokenizer: of the data; it must be the model's, and may have further entries behind its own, for which the embedding then
            gets rows near the mean of the others (the same ones at every call). None: no check.

    Raises:
        ValueError: neither exists, the file is not a checkpoint of our modules, or the tokenizer is another one.
    """
    model, vocabulary = open_weights(Path(init_from))
    if tokenizer is not None and vocabulary is not None:
        vocabulary.check(tokenizer, f"init_from {init_from!r}")
        rows = model.get_input_embeddings().num_embeddings
        if entries_in_use(tokenizer, rows) > rows:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model.resize_token_embeddings(len(tokenizer))
            model.grown = True  # it has rows that never learned (lora.py)
    return model


def open_weights(path: Path) -> tuple[PreTrainedModel, Vocabulary | None]:
    """The model of a folder or checkpoint, and the vocabulary it was trained with, if that is known."""
    return read_folder(path) if (path / "config.json").is_file() else _read_checkpoint(path)


def checkpoint_record(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, lora: LoRA | None) -> dict[str, Any]:
    """What a checkpoint must say beside the weights for `load_language_model` to open it."""
    record: dict[str, Any] = {"language_model_config": model.config.to_dict()}
    record |= {"vocabulary": Vocabulary.of(tokenizer).state_dict()} if tokenizer is not None else {}
    return record | ({"lora": asdict(lora)} if lora else {})


def _load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, whose parts carry checksums.

    Raises:
        ValueError: it is no checkpoint, or damaged.
    """
    try:
        with ZipFile(path) as archive:
            part = archive.testzip()
        if part is not None:
            raise ValueError(f"init_from {str(path)!r} is damaged in its part {part}; take an earlier checkpoint.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (BadZipFile, EOFError, UnpicklingError, RuntimeError) as err:
        reason = str(err).partition("\n")[0]
        raise ValueError(f"init_from {str(path)!r} is not a whole checkpoint ({reason}); take an earlier one.") from err


def _check_shards(folder: Path) -> None:
    """Compare the files of a folder of shards with their checksums, where it has any.

    Raises:
        ValueError: one is damaged.
    """
    kept = folder / "checksums.json"
    for name, value in (json.loads(kept.read_text()) if kept.is_file() else {}).items():
        found = 0
        with suppress(FileNotFoundError), (folder / name).open("rb") as file:
            while chunk := file.read(1 << 20):
                found = crc32(chunk, found)
        if found != value:
            raise ValueError(f"init_from {str(folder)!r} is damaged in its file {name}; take an earlier checkpoint.")


def _read_checkpoint(path: Path) -> tuple[PreTrainedModel, Vocabulary | None]:
    """The model of a checkpoint, adapters merged, and its vocabulary; checkpoints of earlier versions have none."""
    if (path / "meta.pt").is_file():
        _check_shards(path)
        checkpoint = _load_distributed_checkpoint(path)
    elif path.is_file():
        checkpoint = _load(path)
    else:
        raise ValueError(
            f"init_from {str(path)!r} is neither a Hugging Face folder (with config.json) nor a .ckpt file or folder; "
            "train the earlier stage, or correct `model.init_args.init_from`."
        )
    if "language_model_config" not in checkpoint:
        raise ValueError(f"init_from {str(path)!r} was not written by one of our modules; export it to a Hugging Face folder.")
    config, prefix = dict(checkpoint["language_model_config"]), "language_model."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    kind = config.pop("model_type")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config))
    if "lora" in checkpoint:
        add_adapters(model, LoRA(**checkpoint["lora"]))
        weights = merged(model, weights)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config))
    model.load_state_dict(weights)
    return model, Vocabulary(**checkpoint["vocabulary"]) if "vocabulary" in checkpoint else None
