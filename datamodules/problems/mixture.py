"""A mixture: weights over operations x contexts x modes, checked at construction.

Not here: drawing the problem of a cell (`synthesis.py`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import accumulate, product
from math import isclose
from pathlib import Path
from random import Random
from typing import Any, Self

import yaml

from datamodules.problems.context import load_context
from datamodules.yaml_text import read_yaml
from grammar.problem.graph import MOST_OPS

MODES = ("normalforward", "forwardreverse")  # the question asks for a computed quantity; for an unknown
PRESETS = Path(__file__).parents[1] / "mixtures.yaml"
MODE_SHARES = Path(__file__).parents[1] / "modes.yaml"


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of problem, the unit of a mixture."""

    op: int
    context: str
    mode: str = "normalforward"


@dataclass(frozen=True)
class Component:
    """A block of cells that share a weight evenly.

    ops:      "5", "2-4" or "2-4,8": operation counts, both ends included.
    contexts: names of contexts (`datamodules/contexts/`).
    modes:    names of modes.
    weight:   share of the mixture.
    """

    ops: str | int
    contexts: Sequence[str]
    modes: Sequence[str] = ("normalforward",)
    weight: float = 1.0

    def __post_init__(self) -> None:
        for key, example in (("contexts", "garden"), ("modes", MODES[0])):
            names = getattr(self, key)
            if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"mixture: {key}={names!r} is not a list of names; write e.g. {key}: [{example}].")
        if not isinstance(self.weight, int | float):
            raise ValueError(f"mixture: weight {self.weight!r} of ops {self.ops} is not a number; write e.g. weight: 0.5.")
        if self.weight < 0:
            raise ValueError(f"mixture: weight {self.weight} of ops {self.ops} is negative; set it to 0 or more.")
        for mode in self.modes:
            if mode not in MODES:
                raise ValueError(f"mixture: mode {mode!r} is unknown; choose from {list(MODES)}.")

    def cells(self) -> list[Cell]:
        """Return the cells of this block, each once."""
        blocks = product(parse_ops(self.ops), self.contexts, self.modes)
        return list(dict.fromkeys(Cell(op, context, mode) for op, context, mode in blocks))


def parse_ops(text: str | int) -> list[int]:
    """Read "2-4,8" as [2, 3, 4, 8]; duplicates count once.

    Raises:
        ValueError: not of that form, a range that runs backwards, or more than `MOST_OPS`.
    """
    ops: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            raise ValueError(f"ops {text!r}: expected a number or a range such as 2-4 or 2-4,8.")
        if high > MOST_OPS:
            raise ValueError(f"ops {text!r}: at most {MOST_OPS} can be evaluated.")
        ops.extend(range(low, high + 1))
    return list(dict.fromkeys(ops))


class Mixture:
    """A probability for each cell; `draw` picks one."""

    def __init__(self, components: Sequence[Component]) -> None:
        """Check weights, contexts and emptiness, and flatten the components into cells.

        Raises:
            ValueError: weights that do not sum to 1, an unknown context, or a component without cells.
        """
        total = sum(component.weight for component in components)
        if not isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"mixture: weights sum to {total:g}, not 1; correct `data.init_args.mixture`.")
        weights: dict[Cell, float] = {}
        for component in components:
            cells = component.cells()
            if not cells:
                raise ValueError(f"mixture: component {component} has no cells; give it ops, contexts and modes.")
            for cell in cells:
                load_context(cell.context)
                weights[cell] = weights.get(cell, 0.0) + component.weight / len(cells)
        self.weights = weights
        self.cells = list(weights)  # in the order of the components
        self._cumulative = list(accumulate(weights.values()))

    def draw(self, rng: Random) -> Cell:
        """Pick a cell by weight."""
        return rng.choices(self.cells, cum_weights=self._cumulative)[0]

    def only(self, cells: Collection[Cell]) -> Self:
        """The mixture of these cells alone, in the proportions of their weights.

        Raises:
            ValueError: a cell outside the mixture, or no cell with weight.
        """
        strangers = [cell for cell in cells if cell not in self.weights]
        if strangers or not any(self.weights[cell] for cell in cells):
            raise ValueError(f"mixture: {list(cells)} have no weight, and {strangers} are not in it; name cells of it.")
        return self.reweighted({cell: weight for cell, weight in self.weights.items() if cell in cells})

    def reweighted(self, weights: Mapping[Cell, float]) -> Self:
        """The mixture with these weights, scaled to sum to 1."""
        total = sum(weights.values())
        return type(self)([Component(str(c.op), (c.context,), (c.mode,), weight / total) for c, weight in weights.items()])


def components_of(mixture: str | Sequence[Component | Mapping[str, Any]]) -> list[Component]:
    """Components as given, as a config writes them, or those of a preset or file (`read_mixture`)."""
    if isinstance(mixture, str):
        return read_mixture(mixture)
    return [one if isinstance(one, Component) else Component(**one) for one in mixture]


def with_modes(components: Sequence[Component], reverse: Mapping[str, float]) -> list[Component]:
    """Components divided between the two modes.

    Args:
        components: their own modes are replaced.
        reverse: operations -> the share of them that asks in reverse.

    Raises:
        ValueError: operations without a share.
    """
    found = []
    for component in components:
        ops = parse_ops(component.ops)
        parts = {share: [op for op in ops if op in parse_ops(of)] for of, share in reverse.items()}
        if len(ops) != sum(map(len, parts.values())):
            raise ValueError(
                f"mixture: {component.ops} has operations outside {', '.join(reverse)}, the ranges of `{MODE_SHARES.name}`."
            )
        for share, part in parts.items():
            for mode, of_mode in zip(MODES, (1 - share, share), strict=True):
                if part and of_mode:
                    weight = component.weight * len(part) / len(ops) * of_mode
                    found.append(Component(",".join(map(str, part)), component.contexts, (mode,), weight))
    return found


@cache
def _shipped(path: Path) -> Any:
    """The content of a file of this package, which plans ask for hundreds of times."""
    return read_yaml(path)


def mode_shares(name: str, *, rl: bool) -> dict[str, float]:
    """Operations -> share of reverse problems, by a name in `modes.yaml`.

    Raises:
        ValueError: no such name.
    """
    known = _shipped(MODE_SHARES)
    if name not in known:
        raise ValueError(f"modes {name!r} are unknown; choose from {', '.join(known)}.")
    return known[name]["rl" if rl else "supervised"]


def read_mixture(source: str | Path) -> list[Component]:
    """Read the components of a preset (in `mixtures.yaml`), or of a YAML file that lists them.

    "PRESET@MODES" gives a preset's operations and contexts the modes of that name (in `modes.yaml`).

    Raises:
        ValueError: neither a preset nor a file, or an entry that is not a component.
    """
    presets, path = _shipped(PRESETS), Path(source)
    preset, _, modes = str(source).partition("@")
    if modes and preset in presets:
        return with_modes(read_mixture(preset), mode_shares(modes, rl=preset.startswith("rl_")))
    if str(source) in presets:
        entries = presets[str(source)]
    elif path.is_file():
        try:
            entries = read_yaml(path)
        except yaml.YAMLError as err:
            raise ValueError(f"mixture {str(source)!r} is not YAML: {err}") from err
    else:
        raise ValueError(f"mixture {str(source)!r} is neither a file nor one of {', '.join(presets)}.")
    known = {field.name for field in fields(Component)}
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and {"ops", "contexts"} <= e.keys() <= known for e in entries
    ):
        raise ValueError(f"mixture {str(source)!r}: expected a list of components with the keys {', '.join(sorted(known))}.")
    return [Component(**entry) for entry in entries]
