"""A language model as a Hugging Face folder that means the same in every library that opens one.

Three things do not follow from `save_pretrained`:
    - AutoTokenizer chooses a tokenizer by the type of the model, not by the folder's tokenizer.json: it reads a `qwen2` folder by
      Qwen2's own rules, whatever stands in it. Qwen2 is Llama with biases on queries, keys and values, so a model whose tokenizer
      would be misread is written as Llama, whose folders are read as they stand; `interplay.json` keeps what it was.
    - Versions of transformers before 5 read `rope_theta`, `PreTrainedTokenizerFast` and special tokens from other keys; where
      they differ, both are written.
    - A tokenizer may put tokens before or after each text (BOS, EOS). Training adds none, so what adds them is left out.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from datamodules.rows.tokenizer import TAGS
from datamodules.rows.vocabulary import Vocabulary
from datamodules.rows.word_ids import token_ids
from lightning_modules.models.attending import attention_window

RECORD = "interplay.json"
INCIDENTAL = ("_name_or_path", "architectures", "dtype", "transformers_version")  # keys of a config that say nothing of the model
OUTPUT_BIAS = ".self_attn.o_proj.bias"
ADDING = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")  # last steps of tokenizers that add tokens
PROBE = "a b"  # any text
OWN_KEYS = ("backend", "is_local", "local_files_only", "extra_special_tokens", "added_tokens_decoder")


def write_folder(
    folder: Path, config: PretrainedConfig, weights: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerFast,
    stop: Sequence[int], sampling: Mapping[str, Any], facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write config.json, model.safetensors, generation_config.json, tokenizer files, and `interplay.json`.

    Args:
        folder: exists.
        config: of the model.
        weights: of a plain model of that config, by name, whole, on the CPU.
        tokenizer: of the data.
        stop: tokens that end a solution.
        sampling: further keys of generation_config.json.
        facts: further keys of interplay.json.
    """
    write_tokenizer(folder, tokenizer, getattr(config, "max_position_embeddings", None))
    written = config
    if not _read_alike(folder, config, tokenizer) and (written := as_llama(config)) is not config:
        weights = {**weights, **_output_biases(config)}
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(type(written)(**{**written.to_dict(), **ids}))
    shell.generation_config = GenerationConfig(**{**ids, "eos_token_id": list(stop)}, **sampling)
    shell.save_pretrained(folder, state_dict=dict(weights))
    _add_earlier_keys(folder / "config.json")
    if not _read_alike(folder, written, tokenizer):
        rank_zero_warn(
            f"{folder.name}: AutoTokenizer cuts text otherwise for a model of type {written.model_type}; open its tokenizer with "
            "PreTrainedTokenizerFast.from_pretrained."
        )
    trained = {key: value for key, value in config.to_dict().items() if key not in INCIDENTAL}
    record = {"config": trained, "vocabulary": Vocabulary.of(tokenizer).state_dict()}
    size = {"parameters": sum({id(held): held.numel() for held in weights.values()}.values())}
    files = {"files": {path.name: _digest(path) for path in sorted(folder.glob("*.safetensors"))}}
    (folder / RECORD).write_text(json.dumps({**record, **size, **files, **facts}, indent=1))


def write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, longest: int | None) -> None:
    """Write tokenizer.json and tokenizer_config.json, in keys that all versions of transformers understand.

    Tags are written as tokens that are not special, so that `pipeline`, which leaves special tokens out, keeps `</answer>`.
    """
    tokenizer.save_pretrained(folder)
    path, config_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    whole, config = (json.loads(one.read_text(encoding="utf-8")) for one in (path, config_path))
    for token in whole["added_tokens"]:
        token["special"] &= token["content"] not in TAGS
    more = [token for token in config.get("extra_special_tokens") or [] if token not in TAGS]
    config = {key: value for key, value in config.items() if key not in OWN_KEYS}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    config |= {"padding_side": "left"}
    if tokenizer(PROBE).input_ids != token_ids([PROBE], tokenizer)[0]:
        whole["post_processor"] = _without_templates(whole["post_processor"])
        config |= {"add_bos_token": False, "add_eos_token": False}
    config |= {"additional_special_tokens": more} if more else {}
    config |= {"model_max_length": longest} if longest else {}
    path.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    config_path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _without_templates(processor: dict[str, Any] | None) -> dict[str, Any] | None:
    """A tokenizer's last step, as tokenizer.json has it, without those of its parts that add tokens."""
    if processor is None or processor["type"] in ADDING:
        return None
    if processor["type"] != "Sequence":
        return processor
    kept = [part for part in map(_without_templates, processor["processors"]) if part is not None]
    return {**processor, "processors": kept} if kept else None


def read_folder(folder: Path) -> tuple[PreTrainedModel, Vocabulary | None]:
    """Open a folder, in float32, as the architecture that was trained; and its vocabulary, if it has a fast tokenizer.

    Raises:
        ValueError: it cannot be opened, or its weights are not those that were exported.
    """
    record = json.loads((folder / RECORD).read_text()) if (folder / RECORD).is_file() else {}
    for name, digest in record.get("files", {}).items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise ValueError(
                f"{folder / name} is not the file that was exported: damaged, or written by another program since. Export it "
                f"again; if it is what you want, remove {folder / RECORD}."
            )
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError, TypeError) as err:
        raise ValueError(f"{folder} cannot be opened as a language model: {str(err).partition(chr(10))[0]}") from err
    kind = record.get("config", {}).get("model_type", model.config.model_type)
    weights = model.state_dict()
    biases = [name for name in weights if name.endswith(OUTPUT_BIAS)]
    if kind != model.config.model_type and not any(weights[name].any() for name in biases):
        config = dict(record["config"])
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
        model.load_state_dict({name: held for name, held in weights.items() if name not in biases})
    if not (folder / "tokenizer.json").is_file():
        return model.train(), None
    return model.train(), Vocabulary.of(PreTrainedTokenizerFast.from_pretrained(folder))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=8)).hexdigest()


def as_llama(config: PretrainedConfig) -> PretrainedConfig:
    """The Llama of the same function as a Qwen2 without a window; any other config as it is."""
    if config.model_type != "qwen2" or attention_window(config):
        return config
    same = {key: value for key, value in config.to_dict().items() if hasattr(LlamaConfig(), key) and key != "model_type"}
    return LlamaConfig(**{**same, "attention_bias": True, "mlp_bias": False, "architectures": None})


def _output_biases(config: PretrainedConfig) -> dict[str, Tensor]:
    """Llama has a bias on the attention's output too."""
    return {f"model.layers.{i}{OUTPUT_BIAS}": torch.zeros(config.hidden_size) for i in range(config.num_hidden_layers)}


def _read_alike(folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether AutoTokenizer, which looks at the type of the model, reads the folder's tokenizer as training did."""
    path = folder / "config.json"
    if not path.is_file():
        path.write_text(json.dumps({"model_type": config.model_type}))
    read = AutoTokenizer.from_pretrained(folder)
    return Vocabulary.of(read) == Vocabulary.of(tokenizer) and read(PROBE).input_ids == token_ids([PROBE], tokenizer)[0]


def _add_earlier_keys(path: Path) -> None:
    """Add the keys of positions that versions of transformers before 5 read."""
    config = json.loads(path.read_text())
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:  # else none, or one for each kind of layer
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        config |= {"rope_theta": rope["rope_theta"]}
        config |= {} if scaling.get("rope_type", "default") == "default" else {"rope_scaling": scaling}
    path.write_text(json.dumps(config, indent=2))
