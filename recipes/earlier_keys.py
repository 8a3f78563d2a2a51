"""Keys of configs written before settings were grouped: read as what they are now, and in digests as what they were."""

import re
import sys
from collections.abc import Mapping
from itertools import zip_longest
from pydoc import locate
from typing import Any

from jsonargparse import get_loader, set_loader

from datamodules import PretrainDataModule
from datamodules.earlier_arguments import deprecation, is_earlier
from datamodules.yaml_text import check_size
from lightning_modules.policy.policy_module import PolicyModule

MODE = "omegaconf+"  # of jsonargparse: `${...}` is resolved after overrides
MOVES = {"model": PolicyModule.earlier_arguments, "data": PretrainDataModule.earlier_arguments}
# settings that digests do not know, with the value that changes nothing
ADDED = {
    ("model", "kl", "bounds"): [0.0, float("inf")],
    ("model", "kl", "reference"): None,
    ("model", "kl", "reset_every"): 0,
    ("model", "policy_loss"): None,
    ("model", "update", "correction"): None,
    ("model", "update", "entropy_weight"): 0.0,
    ("model", "group", "overlong"): None,
    ("model", "group", "temperature"): None,
    ("model", "group", "mask_truncated"): False,
    ("model", "group", "weights"): None,
    ("model", "evaluation", "released"): False,
    ("model", "lora"): None,
    ("model", "gradient_checkpointing"): False,
    ("model", "tokens_per_pass"): None,
    ("data", "graph", "profile"): "plain",
    ("data", "graph", "defects"): False,
    ("data", "graph", "split_by"): "problem",
    ("data", "graph", "fillers"): [0, 0],
    ("data", "graph", "fillers_of"): "",
    ("data", "graph", "exposed"): 0.0,
    ("data", "held_out", "overlap"): "refuse",
}
_FLAG = re.compile(r"--(model|data)\.(?:init_args\.)?(\w+)(?==|$)")


def read_earlier_keys() -> None:
    """Let parsers of mode MODE read configs that have earlier keys."""
    read = get_loader("yaml")  # that of MODE, too

    def load(text: str) -> Any:
        if "\n" in text:  # a file; values of flags are short
            check_size(text, "the config")
        return renamed(read(text))

    set_loader(MODE, load)


def renamed(config: Any) -> Any:
    """A config as loaded from a file, or a part of one, with earlier keys moved; says so for each, on stderr."""
    if not isinstance(config, dict):
        return config
    for part, moves in MOVES.items():
        if isinstance(config.get(part), dict):
            _move(config[part], moves)
    if "class_path" in config:  # a file that holds one part
        _move(config, {})
    return config


def _move(part: dict[str, Any], moves: Mapping[str, str]) -> None:
    """Move earlier keys of a model or of data; its class, if named, says which they are, else `moves`."""
    if "class_path" in part:
        moves = getattr(locate(str(part["class_path"])), "earlier_arguments", {})
    arguments = part.get("init_args")
    graph = arguments.get("graph") if isinstance(arguments, dict) else None
    if isinstance(graph, dict) and "balanced" in graph and graph.pop("balanced"):
        graph["profile"] = "balanced"
        print("config: graph.balanced is now graph.profile: balanced; please write that.", file=sys.stderr)
    if isinstance(graph, dict) and graph.pop("fillers_after", 0):
        raise ValueError("graph.fillers_after is gone; train a stage without fillers, then one with them (`init_from`).")
    for name, place in moves.items() if isinstance(arguments, dict) else ():
        if name in arguments and is_earlier(name, arguments[name], place):
            settings, field = place.split(".")
            value = arguments.pop(name)
            arguments[settings] = {**(arguments.get(settings) or {}), field: value}
            print(f"config: {deprecation(name, place)}", file=sys.stderr)


def renamed_flags(argv: list[str]) -> list[str]:
    """The words of a command line, with flags that name earlier keys moved; says so for each, on stderr."""
    return [_renamed_flag(word, following) for word, following in zip_longest(argv, argv[1:], fillvalue="")]


def _renamed_flag(word: str, following: str) -> str:
    match = _FLAG.match(word)
    place = MOVES[match[1]].get(match[2]) if match is not None else None
    if match is None or place is None:
        return word
    value = word[match.end() + 1 :] or following
    if match[2] == place.partition(".")[0] and not value.isidentifier():  # settings of that name: a mapping, or a file of one
        return word
    print(f"command line: {deprecation(match[2], place)}", file=sys.stderr)
    return f"--{match[1]}.init_args.{place}{word[match.end() :]}"


def added_keys() -> dict[str, Any]:
    """Dotted key of a config that earlier versions did not have -> the value that changes nothing."""
    return {".".join((part, "init_args", *keys)): value for (part, *keys), value in ADDED.items()}


def as_before(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved config under its earlier keys, in place: a stage keeps the digest that it had."""
    budget = config.get("budget") or {}
    if budget.get("max_problems", 0) is None:
        del budget["max_problems"]
    for part, moves in MOVES.items():
        arguments = config[part]["init_args"]
        for (of, *parents, key), neutral in ADDED.items():
            held = arguments if of == part else {}
            for parent in parents:
                held = held.get(parent) or {}
            if key in held and held[key] == neutral:
                del held[key]
        if part == "data" and (arguments.get("graph") or {}).get("profile") == "balanced":
            arguments["graph"] = {**arguments["graph"], "balanced": True}
            del arguments["graph"]["profile"]
        for name, place in reversed(moves.items()):
            settings, field = place.split(".")
            if isinstance(arguments.get(settings), dict) and field in arguments[settings]:
                value = arguments[settings].pop(field)
                if not arguments[settings]:
                    del arguments[settings]
                arguments[name] = value
    return config
