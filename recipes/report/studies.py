"""The studies in a folder: recipes with arms and seeds (by their index), and stages run by hand or by a recipe without arms."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from callbacks.files import read_json
from callbacks.records.earlier_run import EARLIER
from recipes.validity import is_current, unfinished

SEED = "seed"


@dataclass(frozen=True)
class StageFiles:
    """A stage's folder, relative to the report's."""

    name: str
    folder: str

    def path(self, name: str) -> str:
        """Path of one of its files."""
        return f"{self.folder}/{name}"

    @property
    def evaluation(self) -> str:
        """Path of the results of its test."""
        return self.path("test/evaluation.json")


@dataclass(frozen=True)
class Run:
    """An arm with one seed: its stages, in order."""

    seed: int
    stages: tuple[StageFiles, ...]

    @property
    def last(self) -> StageFiles:
        """The last stage."""
        return self.stages[-1]

    @property
    def before(self) -> StageFiles | None:
        """The stage that the last one started from."""
        return self.stages[-2] if len(self.stages) > 1 else None


@dataclass(frozen=True)
class Group:
    """An arm with all its seeds.

    label:  its values.
    values: axis -> value.
    runs:   complete ones, by seed.
    """

    label: str
    values: Mapping[str, str]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Study:
    """A recipe's results, or those of stages run by hand.

    name, about: for people.
    groups:      arms with a complete run.
    figures:     of the paper, by number, to show first.
    axes:        name -> values, in order.
    missing:     arm -> stages that are not complete.
    index:       path of the index that lists all this; empty if there is none.
    graders:     that its figures are drawn by, one beside the other.
    """

    name: str
    about: str
    groups: tuple[Group, ...]
    figures: tuple[int, ...] = ()
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    index: str = ""
    graders: tuple[str, ...] = ("executable",)

    def stages(self) -> dict[str, StageFiles]:
        """Folder -> stage, each once."""
        return {stage.folder: stage for group in self.groups for run in group.runs for stage in run.stages}


def find_studies(root: Path) -> list[Study]:
    """All studies of a folder.

    Raises:
        ValueError: there is none, or an index cannot be read.
    """
    indices = {path: index for path in sorted(root.glob("*.json")) if (index := read_index(path)) is not None}
    found = [_of_index(root, path.name, index) for path, index in indices.items()]
    found += _by_hand(root, taken={folder for study in found for folder in study.stages()})
    if not found:
        stale = next((path.parent for path in _tests(root) if not is_current(path)), None)
        raise ValueError(
            f"report: {stale} has scores of other weights than its training ended with; test it again." if stale else
            f"report: {root} holds no run; give the folder of `run --out`, or one with runs of `fit` and `test`."
        )  # fmt: skip
    return found


def read_index(path: Path) -> dict[str, Any] | None:
    """The content of an index; None if the file is something else."""
    try:
        raw = read_json(path)
    except json.JSONDecodeError as err:
        raise ValueError(f"report: {path} is not JSON ({err}); remove it, or run its recipe again.") from err
    return raw if isinstance(raw, dict) and {"recipe", "arms"} <= raw.keys() else None


def _of_index(root: Path, file: str, raw: dict[str, Any]) -> Study:
    axes = {axis: tuple(names) for axis, names in raw["axes"].items()}
    runs: dict[str, list[Run]] = {}
    values: dict[str, Mapping[str, str]] = {}
    missing: dict[str, str] = {}
    for arm in raw["arms"]:
        label = "-".join(arm["values"].values()) or "all"
        values[label] = arm["values"]
        stages = tuple(StageFiles(s["name"], s["folder"]) for s in arm["stages"])
        if states := unfinished(root, arm["stages"]):
            missing[arm["name"]] = ", ".join(f"{name}: {state}" for name, state in states.items())
        else:
            runs.setdefault(label, []).append(Run(arm["seed"], stages))

    def place(label: str) -> list[int]:
        return [axes[axis].index(value) if value in axes.get(axis, ()) else 0 for axis, value in values[label].items()]

    groups = tuple(Group(of, values[of], tuple(sorted(runs[of], key=lambda r: r.seed))) for of in sorted(runs, key=place))
    name = raw["recipe"] + (f" ({raw['scale']})" if raw["scale"] else "")
    about = "\n\n".join(part.strip() for part in (raw["about"], raw["about_scale"]) if part)
    graders = tuple(raw.get("graders") or Study.graders)
    return Study(name, about, groups, tuple(raw["figures"]), axes, missing, file, graders)


def _tests(root: Path) -> list[Path]:
    """The results of all tests of a folder, but those of runs that others have taken the place of."""
    return [path for path in sorted(root.glob("**/test/evaluation.json")) if EARLIER not in path.relative_to(root).parts]


def _by_hand(root: Path, taken: set[str]) -> list[Study]:
    """Stages without an index: a folder of stages is a study with the stages as arms; folders `seedN` are its seeds."""
    places: dict[Path, list[Path]] = {}
    for path in filter(is_current, _tests(root)):
        folder = path.parent.parent
        if str(folder.relative_to(root)) not in taken and folder.parent.name != "stages":
            places.setdefault(folder.parent, []).append(folder)
    families: dict[tuple[Path, bool], dict[int, list[Path]]] = {}
    for parent, folders in places.items():
        number = parent.name.removeprefix(SEED)
        seeded = parent.name.startswith(SEED) and number.isdigit() and parent != root
        families.setdefault((parent.parent if seeded else parent, seeded), {})[int(number) if seeded else 0] = folders
    return [_family(root, family, seeds, also=(family, not seeded) in families) for (family, seeded), seeds in families.items()]


def _family(root: Path, family: Path, seeds: Mapping[int, list[Path]], also: bool) -> Study:
    """A study of a folder's stages, or of those in its folders `seedN`; also: the folder has both."""
    runs: dict[str, list[Run]] = {}
    for seed, folders in sorted(seeds.items()):
        chains = {folder: chain_of(folder, folders) for folder in folders}
        for folder in sorted(folders, key=lambda path: (len(chains[path]), path.stat().st_mtime)):
            chain = tuple(StageFiles(stage.name, str(stage.relative_to(root))) for stage in chains[folder])
            runs.setdefault(folder.name, []).append(Run(seed, chain))
    groups = tuple(Group(name, {"stage": name}, tuple(of)) for name, of in runs.items())
    name = str(family.relative_to(root)) if family.is_relative_to(root) and family != root else root.name
    seeded = any(folder.parent != family for folders in seeds.values() for folder in folders)
    return Study(f"{name}, by seed" if also and seeded else name, "Stages in the order in which they were run.", groups)


def chain_of(folder: Path, folders: Sequence[Path]) -> list[Path]:
    """A stage and those before it, each started from the one before."""
    chain = [folder]
    while (start := _start_of(chain[0], folders)) is not None and start not in chain:
        chain.insert(0, start)
    return chain


def _start_of(folder: Path, folders: Sequence[Path]) -> Path | None:
    """Which of some stages another started from, by its `init_from`; by name if that path is no more, as folders were moved."""
    source = _init_from(folder)
    if source is None:
        return None
    start = Path(source).parent
    found = [path for path in folders if path.resolve() == start.resolve()]
    if not found and not start.is_dir():
        found = [path for path in folders if path.name == start.name and path != folder]
    return found[0] if found else None


def _init_from(folder: Path) -> str | None:
    config: Any = folder / "config.yaml"
    if not config.is_file():
        return None
    return yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["init_args"].get("init_from")
