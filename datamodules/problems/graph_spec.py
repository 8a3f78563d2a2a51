"""What kind of dependency graphs to draw, and what a draw gives."""

from dataclasses import dataclass

from grammar import Graph
from grammar.problem.forms import SKILLS

_CHANCES = (
    "reuse",
    "copies",
    "differences",
    "constants",
    "early_leaves",
    "end_copies",
    "totals",
    "question_total",
    "known_total",
)


@dataclass(frozen=True)
class GraphSpec:
    """What kind of graphs to draw. The defaults draw problems like the published ones, but for the unknown's range.

    number_range: leaves and added constants are 1 ... number_range-1, factors 2 ... number_range-1 (published: 5).
    max_terms:    operands of one definition, 1 ... 4 (published: 4); three at most next to a constant. Totals have their own.
    max_value:    no value exceeds this, nor in reverse mode a coefficient or constant of x; no effect under a modulus.
    depth:        2: counts and their totals; 3: also averages, and totals of products of counts and averages.
    distractors:  fewest and most quantities that the answer does not need. If names run out there are fewer than
                  drawn, but never fewer than the fewest.
    unknown_range: least and greatest value of the unknown in reverse mode, all equally likely (published: 1, 4).
    reuse:        chance that an operand is a quantity which is already waiting, if there is one. 0 gives trees.
    fan_out:      most references to one quantity (published data: 12), implied ones of totals included.
    copies:       chance that a definition has one operand; more have one if no second is available.
    differences:  chance that a definition of two terms is their difference, if bounds allow; else it is their sum.
    constants:    chance that a definition gets a constant (`c plus ...`, `c times ...`).
    early_leaves: chance that a quantity is a plain number while others can use the remaining operations.
    end_copies:   chance that a quantity is a copy of another, not a plain number, once operations are only just enough.
    totals:       chance that a reference is to the total of a place, if the context has places.
    question_total: chance that the question of a forward problem asks for a total.
    known_total:  chance that what is known besides in a reverse problem is a total.
    shuffle:      put the sentences in random order; false: in an order in which each only refers to earlier ones.
    withheld:     compositions of two skills that no training problem has, e.g. "copy > sum of 2": a sum that reads a copy
                  (`grammar.problem.forms`). Problems of the other splits may have them.
    """

    number_range: int = 5
    max_terms: int = 4
    max_value: int = 1000
    depth: int = 2
    distractors: tuple[int, int] = (0, 4)
    unknown_range: tuple[int, int] = (1, 30)
    reuse: float = 0.9
    fan_out: int = 12
    copies: float = 0.25
    differences: float = 0.5
    constants: float = 0.6
    early_leaves: float = 0.05
    end_copies: float = 0.6
    totals: float = 0.35
    question_total: float = 0.83
    known_total: float = 0.93
    shuffle: bool = True
    withheld: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that no graph can have."""
        if self.number_range < 3:
            raise ValueError(f"GraphSpec: number_range={self.number_range} leaves no factor; set it to at least 3.")
        if not 1 <= self.max_terms <= 4:
            raise ValueError(f"GraphSpec: max_terms={self.max_terms} is not within 1 and 4.")
        if self.depth not in (2, 3):
            raise ValueError(f"GraphSpec: depth={self.depth} is neither 2 nor 3.")
        if self.fan_out < 1:
            raise ValueError(f"GraphSpec: fan_out={self.fan_out} lets no quantity be used; set it to at least 1.")
        for name in ("distractors", "unknown_range"):
            low, high = getattr(self, name)
            least = 1 if name == "unknown_range" else 0
            if not least <= low <= high:
                raise ValueError(
                    f"GraphSpec: {name}={low}-{high} is no range; give two numbers from {least} on, the lower first."
                )
        if max(self.number_range - 1, self.unknown_range[1]) > self.max_value:
            raise ValueError(f"GraphSpec: max_value={self.max_value} is below number_range or unknown_range; raise it.")
        self._check_withheld()
        for name in _CHANCES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"GraphSpec: {name}={getattr(self, name)} is no probability; set it within 0 and 1.")

    def _check_withheld(self) -> None:
        for pair in self.withheld:
            first, _, second = pair.partition(" > ")
            if not {first, second} <= set(SKILLS):
                raise ValueError(f"GraphSpec: withheld={pair!r} is not of the form 'copy > sum of 2'; skills are {SKILLS}.")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph and one topological order of the quantities it needs: the order in which the gold solution takes its steps."""

    graph: Graph
    order: tuple[str, ...]


class OutOfRoom(Exception):
    """No name is left in the context, or no number within bounds, for what is needed next."""
