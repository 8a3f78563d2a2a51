"""A scale: the meaning of recipes' terms for models of one size (`configs/scale/paper.yaml`, `small.yaml`, `tiny.yaml`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.yaml_text import read_yaml
from recipes.named_files import CONFIGS
from recipes.planning.layers import layered

KEYS = {"about", "kinds", "settings", "axes", "graders", "like", "modes", "set", "unseen"}
MIXTURES = ("data.init_args.mixture", "data.init_args.replay")
SCALES = CONFIGS / "scale"


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale.

    name:     the file's stem.
    about:    its models, bands and differences from the paper, for people.
    kinds:    kind of stage -> its configs, and settings above them.
    settings: name -> dotted key -> value.
    axes:     name -> values of an axis, as in a recipe.
    graders:  that reports draw figures by; none: the report's own default.
    unseen:   bands, contexts and modes of evaluation that no stage is meant to see.

    In a file, `like: NAME` takes all that it does not state from another scale, `set` is above all kinds of stages, and `modes`
    names the shares of reverse problems of every preset of a mixture (`datamodules/modes.yaml`).
    """

    name: str
    about: str
    kinds: Mapping[str, tuple[tuple[Path, ...], Mapping[str, Any]]]
    settings: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Mapping[str, Any]]
    graders: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def kind(self, name: str) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
        """Configs and settings of a kind of stage."""
        return self._look_up(self.kinds, "kind of stage", name)

    def setting(self, name: str) -> Mapping[str, Any]:
        """Settings by their name."""
        return self._look_up(self.settings, "setting", name)

    def axis(self, name: str) -> Mapping[str, Any]:
        """Values of an axis by its name."""
        return self._look_up(self.axes, "axis", name)

    def _look_up(self, found: Mapping[str, Any], what: str, name: str) -> Any:
        if name not in found:
            raise ValueError(f"scale {self.name!r} has no {what} {name!r}; it has {', '.join(sorted(found))}.")
        return found[name]


def load_scale(name: str, near: Path, asked: tuple[Path, ...] = ()) -> Scale:
    """Read a scale; configs are found relative to its file.

    Args:
        name: of a file in the folder `scale` beside `near`, or in `configs/scale`; or a path that ends in .yaml,
            from `near` or from here.
        near: folder of the recipe.
        asked: files of scales that are like this one; one of the same name that lies elsewhere is meant.

    Raises:
        ValueError: no such file, an unknown key, or a missing config.
    """
    beside = [asked[-1].parent / f"{name}.yaml"] if asked else []
    places = [*beside, (near / "../scale").resolve() / f"{name}.yaml", SCALES / f"{name}.yaml"]
    if name.endswith(".yaml"):
        places = [near / name, Path(name)]
    path = next((place for place in places if place.is_file() and place.resolve() not in asked), None)
    if path is None:
        found = {
            p.stem
            for place in places
            for p in place.parent.glob("*.yaml")
            if re.search(r"^(kinds|like):", p.read_text(encoding="utf-8"), re.MULTILINE)
        }
        there = f"there are {', '.join(sorted(found))}" if found else "give a name of configs/scale/"
        raise ValueError(f"scale {name!r} does not exist (looked for {', '.join(map(str, places))}); {there}.")
    raw = read_yaml(path)
    if not isinstance(raw, Mapping) or not raw.keys() <= KEYS or not raw.keys() & {"kinds", "like"}:
        raise ValueError(
            f"{path}: a scale has the key `kinds` or `like`, and optionally {', '.join(sorted(KEYS - {'kinds', 'like'}))}."
        )
    base = load_scale(raw["like"], near, (*asked, path.resolve())) if "like" in raw else None
    return _scale(path, raw, base)


def _scale(path: Path, raw: Mapping[str, Any], base: Scale | None) -> Scale:
    """A scale as its file has it, above the one that it is `like`."""
    kinds = dict(base.kinds) if base else {}
    for name, entry in raw.get("kinds", {}).items():
        kinds[name] = _kind(path, name, entry, kinds.get(name))
    every = raw.get("set", {})
    kinds = {name: (configs, layered(settings, every)) for name, (configs, settings) in kinds.items()}
    settings = {**(base.settings if base else {}), **raw.get("settings", {})}
    if modes := raw.get("modes"):
        kinds = {name: (configs, _in_modes(held, modes)) for name, (configs, held) in kinds.items()}
        settings = {name: _in_modes(held, modes) for name, held in settings.items()}
    return Scale(
        path.stem, raw.get("about", "") or (base.about if base else ""), kinds, settings,
        {**(base.axes if base else {}), **raw.get("axes", {})},
        tuple(raw.get("graders", base.graders if base else ())), tuple(raw.get("unseen", base.unseen if base else ())),
    )  # fmt: skip


def _in_modes(settings: Mapping[str, Any], modes: str) -> dict[str, Any]:
    """Settings with the modes of that name for every mixture that is a preset (`datamodules/modes.yaml`)."""
    chosen = {key: settings[key] for key in MIXTURES if isinstance(settings.get(key), str)}
    return {**settings, **{key: f"{preset.partition('@')[0]}@{modes}" for key, preset in chosen.items()}}


def _kind(
    path: Path, name: str, entry: Any, base: tuple[tuple[Path, ...], Mapping[str, Any]] | None = None
) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    if isinstance(entry, Mapping) and isinstance(entry.get("config"), str):
        entry = {**entry, "config": [entry["config"]]}
    if not isinstance(entry, Mapping) or not entry.keys() <= {"config", "set"} or not (base or "config" in entry):
        raise ValueError(f"{path}: kind {name!r} has the keys `config` (a list of files) and, optionally, `set`; got {entry!r}.")
    configs, settings = base or ((), {})
    if "config" in entry:
        configs = config_files(path, f"kind {name!r}", entry["config"])
    return configs, layered(settings, entry.get("set", {}))


def config_files(path: Path, where: str, names: Sequence[str]) -> tuple[Path, ...]:
    """Configs that the file `path` names, relative to it.

    Raises:
        ValueError: one does not exist.
    """
    configs = tuple((path.parent / name).resolve() for name in names)
    for config in configs:
        if not config.is_file():
            raise ValueError(f"{path}: {where}: {config} does not exist.")
    return configs
