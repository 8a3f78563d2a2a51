"""What kind of dependency graphs to draw, and what a draw gives."""

from dataclasses import dataclass

from grammar import Graph


@dataclass(frozen=True)
class GraphSpec:
    """What kind of graphs to draw.

    number_range: leaves and added constants are 1 ... number_range-1, factors 2 ... number_range-1 (published: 5).
    max_terms:    operands of one definition, 1 ... 4 (published: 4); three at most next to a constant. Totals have their own.
    max_value:    no value exceeds this; no effect under a modulus.
    reuse:        chance that an operand is a quantity which is already waiting, where there is one. 0 gives trees.
    differences:  chance that a definition of two terms is their difference, where bounds allow; else it is their sum.
    constants:    chance that a definition gets a constant (`c plus ...`, `c times ...`).
    totals:       chance that a reference is to the total of a place, where the context has places.
    question_total: chance that the question asks for a total (published data: 0.83).
    shuffle:      put the sentences in random order; false: in an order in which each only refers to earlier ones.
    """

    number_range: int = 5
    max_terms: int = 4
    max_value: int = 1000
    reuse: float = 0.3
    differences: float = 0.5
    constants: float = 0.3
    totals: float = 0.2
    question_total: float = 0.8
    shuffle: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers no graph can have."""
        if self.number_range < 3:
            raise ValueError(f"GraphSpec: number_range={self.number_range} leaves no factor; set it to at least 3.")
        if not 1 <= self.max_terms <= 4:
            raise ValueError(f"GraphSpec: max_terms={self.max_terms} is not within 1 and 4.")
        for name in ("reuse", "differences", "constants", "totals", "question_total"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"GraphSpec: {name}={getattr(self, name)} is no probability; set it within 0 and 1.")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph and one topological order of its quantities: the order in which the gold solution takes its steps."""

    graph: Graph
    order: tuple[str, ...]


class OutOfRoom(Exception):
    """The context has no name, or the bounds no number, left for what the plan needs next."""
