"""A scale: the meaning of recipes' terms for models of one size (`configs/scale/paper.yaml`, `small.yaml`, `tiny.yaml`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.yaml_text import read_yaml

KEYS = {"about", "kinds", "settings", "axes", "graders"}
SCALES = Path(__file__).parents[2] / "configs/scale"


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale.

    name:     the file's stem.
    about:    its models, bands and differences from the paper, for people.
    kinds:    kind of stage -> its configs, and settings above them.
    settings: name -> dotted key -> value.
    axes:     name -> values of an axis, as in a recipe.
    graders:  that reports draw figures by; none: the report's own default.
    """

    name: str
    about: str
    kinds: Mapping[str, tuple[tuple[Path, ...], Mapping[str, Any]]]
    settings: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Mapping[str, Any]]
    graders: tuple[str, ...] = ()

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


def load_scale(name: str, near: Path) -> Scale:
    """Read a scale; configs are found relative to its file.

    Args:
        name: of a file in the folder `scale` beside `near`, or in `configs/scale`; or a path that ends in .yaml.
        near: folder of the recipe.

    Raises:
        ValueError: no such file, an unknown key, or a missing config.
    """
    places = [Path(name)] if name.endswith(".yaml") else [(near / "../scale").resolve() / f"{name}.yaml", SCALES / f"{name}.yaml"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        found = {p.stem for place in places for p in place.parent.glob("*.yaml") if "\nkinds:" in p.read_text(encoding="utf-8")}
        there = f"there are {', '.join(sorted(found))}" if found else "give a name of configs/scale/"
        raise ValueError(f"scale {name!r} does not exist (looked for {', '.join(map(str, places))}); {there}.")
    raw = read_yaml(path)
    if not isinstance(raw, Mapping) or not {"kinds"} <= raw.keys() <= KEYS:
        raise ValueError(f"{path}: a scale has the key `kinds` and, optionally, {', '.join(sorted(KEYS - {'kinds'}))}.")
    kinds = {name: _kind(path, name, entry) for name, entry in raw["kinds"].items()}
    return Scale(
        path.stem, raw.get("about", ""), kinds, raw.get("settings", {}), raw.get("axes", {}), tuple(raw.get("graders", ()))
    )


def _kind(path: Path, name: str, entry: Any) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    if not isinstance(entry, Mapping) or not {"config"} <= entry.keys() <= {"config", "set"}:
        raise ValueError(f"{path}: kind {name!r} has the keys `config` (a list of files) and, optionally, `set`; got {entry!r}.")
    return config_files(path, f"kind {name!r}", entry["config"]), entry.get("set", {})


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
