"""The resolved config of a stage, all files merged and all defaults filled in, and a digest of all its inputs.

The digest covers the resolved config, the parent stage, and the content that a config only names: presets of mixtures, contexts,
tokenizers, files of problems, weights from outside, the source files of the user's own classes.
The places of a run's files are no part of it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache, reduce
from hashlib import sha256
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.records.resume import class_paths, source_of
from datamodules.files.line_files import find_files
from datamodules.problems.context import CONTEXT_FOLDER
from datamodules.problems.mixture import components_of
from datamodules.rows.tokenizer import TokenizerSettings
from recipes.cli import ExperimentCLI
from recipes.earlier_keys import as_before, renamed_flags
from recipes.rejection.rejection_sampling import RejectionSampling

Config = dict[str, Any]
PLACES = (("ckpt_path",), ("weights_only",), ("config",), ("trainer", "default_root_dir"))  # of files
COSMETIC = (("trainer", "enable_progress_bar"), ("trainer", "enable_model_summary"))
NO_JSON = {"Infinity": ".inf", "-Infinity": "-.inf", "NaN": ".nan"}  # what json writes -> what YAML reads
DIGITS = 12  # of a digest that names a folder


class _Reader(ExperimentCLI):
    """Has the parser of `fit`; reads, builds and runs nothing."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = Namespace(subcommand="fit")

    def _nothing(self, *args: object) -> None:
        pass

    _set_seed = before_instantiate_classes = instantiate_classes = _run_subcommand = _nothing  # type: ignore[assignment]


@cache
def _parser() -> LightningArgumentParser:
    return _Reader()._parser("fit")


def resolve(configs: Sequence[Path], settings: Mapping[str, Any]) -> Config:
    """Merge configs, later ones winning, and fill in all defaults; `PLACES` are left out.

    Args:
        configs: files as `fit --config` takes them.
        settings: dotted key -> value, above the files.

    Raises:
        ArgumentError: `fit` would refuse the config.
    """
    arguments = [word for path in configs for word in ("--config", str(path))]
    parser = _parser()
    parsed = parser.parse_args([*arguments, *renamed_flags(flags(settings))])
    config = yaml.safe_load(parser.dump(parsed, skip_none=False))
    return _drop(config, PLACES)


def _drop(config: Config, keys: Sequence[tuple[str, ...]]) -> Config:
    """A config without these keys, in place."""
    for *parents, key in keys:
        reduce(getitem, parents, config).pop(key, None)
    return config


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as arguments of `fit` and `test`."""
    return [f"--{key}={value if isinstance(value, str) else as_yaml(value)}" for key, value in settings.items()]


def as_yaml(value: Any) -> str:
    """A value as JSON, with infinities as YAML reads them."""
    return re.sub(
        r'"(?:\\.|[^"\\])*"|-?Infinity|NaN', lambda found: NO_JSON.get(found[0], found[0]), json.dumps(value, ensure_ascii=False)
    )


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of a stage, from its module: "pretrain", "midtrain", "grpo" ..."""
    return config["model"]["class_path"].rpartition(".")[2].removesuffix("Module").lower()


def processes(config: Mapping[str, Any]) -> int | None:
    """The number of devices a stage trains on, all nodes together; None: all available ones ("auto")."""
    devices = config["trainer"].get("devices", "auto")
    if isinstance(devices, str) and devices != "auto":
        devices = [part for part in devices.split(",") if part] if "," in devices else int(devices)
    if isinstance(devices, list):
        devices = len(devices)
    return None if devices in ("auto", -1) else devices * config["trainer"].get("num_nodes", 1)


def digest(config: Config, parent: str | None, rejection: RejectionSampling | None = None) -> str:
    """Name a stage by its inputs.

    Args:
        config: resolved.
        parent: digest of the stage it starts from; None: it starts as its config says.
        rejection: what it samples to train on.
    """
    shaped = _drop(as_before(json.loads(json.dumps(config))), COSMETIC)
    if parent is not None:
        shaped["model"]["init_args"].pop("init_from", None)
    whole = {"config": shaped, "parent": parent, "named": dict(_named(shaped))}
    if rejection is not None:
        whole["rejection_sampling"] = asdict(rejection)
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _named(config: Config) -> Iterator[tuple[str, Any]]:
    """Inputs that the config only names: key -> content or its digest."""
    data = config["data"]["init_args"]
    contexts = set(data["held_out"]["contexts"])
    for key in ("mixture", "replay"):
        if data.get(key):
            components = _components(data[key])
            contexts |= {context for component in components for context in component["contexts"]}
            yield key, components
    if (own := (data.get("graph") or {}).get("fillers_of")) and not (CONTEXT_FOLDER / f"{own}.yaml").is_file():
        contexts.add(own)  # one of the project is part of its version
    for context in sorted(contexts):
        path = CONTEXT_FOLDER / f"{context}.yaml"
        yield f"context {context}", _content(path if path.is_file() else Path(context))
    tokenizer = TokenizerSettings.of(data["tokenizer"])
    yield "tokenizer", _content(tokenizer.folder / "tokenizer.json")
    files = data.get("files") or {}
    for file in find_files([*data["held_out"]["files"], *files.get("train", ()), *files.get("validation", ())]):
        yield f"file {file}", _content(file)
    model = config["model"]["init_args"]
    for class_path in sorted(class_paths(config)):
        if (source := source_of(class_path)) is not None:
            yield f"source of {class_path}", _content(source)
    critic = ((model.get("critic") or {}).get("init_args") or {}).get("init_from")
    starts = {"init_from": model.get("init_from"), "teacher": (model.get("kl") or {}).get("reference"), "critic": critic}
    for name, start in starts.items():
        if start is not None:
            yield name, _weights(Path(start))


def _components(mixture: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(mixture, str):
        return [dict(component) for component in mixture]
    return [asdict(component) for component in components_of(mixture)]


def _weights(path: Path) -> str | list[str | None] | None:
    """Digest of a file of weights, or of a folder's; of each file if there are several."""
    shards = sorted(path.glob("model-*-of-*.safetensors"))
    if shards and not (path / "model.safetensors").is_file():
        return [_content(shard) for shard in shards]
    return _content(path / "model.safetensors" if path.is_dir() else path)


def _content(path: Path) -> str | None:
    """Digest of a file; None if it does not exist (yet)."""
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None
