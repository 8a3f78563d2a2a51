"""Every key of a config, from the signatures and docstrings of the classes that configs name."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import islice
from types import ModuleType
from typing import Any, get_args, get_type_hints

from docstring_parser import parse

import callbacks
import datamodules
import lightning_modules
from lightning_modules import optimizers, rewards, schedules
from lightning_modules.models import critic
from lightning_modules.policy import sample_weights, surrogate, trust_region
from recipes.cli import ALWAYS_ON

PACKAGES = ("datamodules", "lightning_modules", "callbacks")
PUBLIC = (lightning_modules, rewards, optimizers, schedules, datamodules, callbacks)


def exported(package: ModuleType) -> list[type]:
    """The classes that a package offers."""
    return [found for name in package.__all__ if isinstance(found := getattr(package, name), type)]


def defined(*modules: ModuleType) -> list[type]:
    """The classes that modules define and that can be built."""
    found = [kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)]
    return [kind for kind in found if kind.__module__ in {module.__name__ for module in modules} and not inspect.isabstract(kind)]


SECTIONS = {
    "Models: `model.class_path`": exported(lightning_modules),
    "Data: `data.class_path`": exported(datamodules),
    "Rewards: `model.init_args.reward`, `credit`": [kind for kind in exported(rewards) if kind is not rewards.Earned],
    "Surrogates: `model.init_args.policy_loss`": [
        trust_region.Clip, *(kind for kind in defined(surrogate) if issubclass(kind, surrogate.PolicyLoss)),
    ],
    "Weights of samples: `model.init_args.group.weights`": defined(sample_weights),
    "Critics of PPO: `model.init_args.critic`": [kind for kind in defined(critic) if kind is not critic.Critic],
    "Optimisers and schedules": [
        found for module in (optimizers, schedules) for _, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__.startswith("lightning_modules") and not inspect.isabstract(found)
    ],
    "Callbacks: `trainer.callbacks`": exported(callbacks),
}  # fmt: skip


def config_keys() -> str:
    """All sections as markdown, and the groups of settings that their keys take."""
    groups: dict[type, None] = {}
    parts = [_section(title, classes, groups) for title, classes in SECTIONS.items()]
    known = list(groups)
    for group in known:  # groups within groups
        groups |= dict.fromkeys(_groups(group))
    return "\n".join([*parts, _section("Groups of settings", list(groups), {})])


def _section(title: str, classes: list[type], groups: dict[type, None]) -> str:
    lines = [f"## {title}", ""]
    keys = {kind: key for key, kind in ALWAYS_ON.items()}
    for kind in classes:
        groups |= dict.fromkeys(_groups(kind))
        always = f" (always on: `{keys[kind]}`)" if kind in keys else ""
        public = (module.__name__ for module in PUBLIC if getattr(module, kind.__name__, None) is kind)
        place = ".".join([*islice(public, 1), kind.__name__])
        lines += [f"### {place}{always}", "", _summary(kind), "", *_table(kind), ""]
    return "\n".join(lines)


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n")[0].split("\nArgs:")[0].replace("\n", " ")


def _table(kind: type) -> Iterator[str]:
    rows = list(_rows(kind))
    if rows:
        yield "| key | type | default | |"
        yield "|---|---|---|---|"
        yield from rows


def _rows(kind: type) -> Iterator[str]:
    """Its keys; keys that it passes on (`**settings`) are those of its parent."""
    described = _described(kind)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    for found in parameters:
        if found.kind is found.VAR_POSITIONAL:
            continue
        if found.kind is found.VAR_KEYWORD:
            parent = next((base for base in kind.__mro__[1:] if "__init__" in vars(base)), object)
            if parent.__module__.split(".")[0] in (*PACKAGES, "lightning"):
                own = {one.name for one in parameters}
                yield from (row for row in _rows(parent) if row.split("`")[1] not in own)
            continue
        kept = "" if found.default is found.empty else f"`{_shown(found.default)}`"
        cells = (f"`{found.name}`", f"`{_type(found.annotation)}`", kept or "(needed)", described.get(found.name, ""))
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _described(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        for text in (base.__doc__, vars(base).get("__init__") and base.__init__.__doc__):
            found |= {one.arg_name: one.description or "" for one in parse(inspect.cleandoc(text or "")).params}
    return found


def _shown(value: Any) -> str:
    text = f"{type(value).__name__}()" if is_dataclass(value) else repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for before in ("typing.", "collections.abc.", "datamodules.", "lightning_modules."):
        text = text.replace(before, "")
    text = text.replace(" | ", " or ")
    return text if len(text) < 80 else text[:77] + "..."


def _groups(kind: type) -> Iterator[type]:
    """Frozen settings that its keys take."""
    own = [base for base in kind.__mro__ if base.__module__.split(".")[0] in PACKAGES and "__init__" in vars(base)]
    for hint in [hint for base in own for hint in get_type_hints(base.__init__).values()]:
        for one in (hint, *get_args(hint)):
            if isinstance(one, type) and is_dataclass(one) and one.__module__.split(".")[0] in PACKAGES:
                yield one
