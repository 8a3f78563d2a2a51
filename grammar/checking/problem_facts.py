"""What a problem says of each name, in the form that checking needs: one `Fact` per name.

Whether a step computes what the problem says (the sum, not the product, of these two) is decided by evaluating both at
one fixed pseudo-random point: every name stands for a large number, and two polynomials that agree there are the same
except with probability below 2**-40. Sets of parents are bit masks.
"""

import random
from functools import lru_cache
from typing import NamedTuple

from grammar.checking.report import NodeVerdict
from grammar.problem.graph import Graph
from grammar.problem.names import MAX_LENGTH, TOTAL, read_name


class Fact(NamedTuple):
    """What the problem says of one name.

    code:    its value as an integer code (linear); None where the problem fixes none.
    bit:     the name, in masks of names.
    parents: the mask of its parents.
    point:   the number it stands for when formulas are compared.
    formula: what its definition comes to at the points of its parents.
    """

    code: int | None
    bit: int
    parents: int
    point: int
    formula: int | None


class ProblemFacts:
    """The facts of one problem, used for every solution of it.

    Args:
        graph: the problem.

    Names are those that it mentions, and totals that it implies but does not mention: of a kind that some total of it
    counts, over a place that holds something. Facts of those are computed when asked for.
    """

    def __init__(self, graph: Graph) -> None:
        self.reverse = graph.unknown is not None
        self.modulus = graph.modulus
        self.answer = graph.answer
        self.end, self.known = graph.end, graph.known
        self._graph = graph
        read = [*map(read_name, graph.mentioned)]
        kinds = dict.fromkeys(name.counted for name in read if name.kind == "total")
        places = dict.fromkeys(name.place for name in read if name.kind != "total")
        totals = [f"{TOTAL}{kind} in {place}" if place else f"{TOTAL}{kind}" for kind in kinds for place in places]
        names = dict.fromkeys((*graph.mentioned, *totals))
        self._bits = {name: 1 << i for i, name in enumerate(names)}
        self._points = dict(zip(names, points(len(names)), strict=True))
        self._facts = {name: self._fact(name) for name in graph.mentioned}
        self.end_bit = self._bits[graph.end]
        self.gold = graph.order
        self.gold_names = frozenset(graph.order)
        self.computed = tuple(name for name in graph.order if graph.quantities[name].op > 1)
        self.perfect = tuple(NodeVerdict(name, "correct") for name in graph.order)

    def fact(self, name: str) -> Fact | None:
        """What the problem says of a name; None if it fixes no value."""
        fact = self._facts.get(name)
        if fact is None and name in self._bits and len(name) <= MAX_LENGTH:
            fact = self._facts[name] = self._fact(name)
        return fact if fact is not None and fact.code is not None else None

    def _fact(self, name: str) -> Fact:
        graph, bits = self._graph, self._bits
        quantity = graph.quantities.get(name) or graph.total(name)
        if quantity is None or not all(parent in bits for parent in quantity.parents):
            return Fact(None, bits[name], 0, self._points[name], None)
        code = graph.codes.get(name)
        if code is None and all(parent in graph.codes for parent in quantity.parents):
            code = quantity.compute(graph.codes, self.modulus)
        parents = 0
        for parent in quantity.parents:
            parents |= bits[parent]
        formula = quantity.formula(self._points, graph.codes) if parents and code is not None else code
        return Fact(code, bits[name], parents, self._points[name], formula)

    def names(self, mask: int) -> str:
        """The names in a mask, for messages."""
        return ", ".join(repr(name) for name, bit in self._bits.items() if mask & bit) or "none"


def facts_of(graph: Graph) -> ProblemFacts:
    """The facts of a problem, kept with its graph."""
    facts = graph.derived.get("facts")
    if facts is None:
        facts = graph.derived["facts"] = ProblemFacts(graph)
    return facts


@lru_cache(maxsize=256)
def points(count: int) -> tuple[int, ...]:
    """The first numbers of a fixed sequence of 48-bit numbers."""
    draw = random.Random(2512_07783)
    return tuple(draw.getrandbits(48) | 1 for _ in range(count))
