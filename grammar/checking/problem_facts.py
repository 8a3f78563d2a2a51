"""What a problem says of each name, made ready for checking solutions: one `Fact` per name.

Whether a step computes what the problem says (the sum, not the product, of these two) is decided by evaluating both at
one fixed pseudo-random point: every name stands for a large number, and two polynomials that agree there are the same
but for a chance of less than 2**-40. Sets of parents are bit masks.
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


class Blueprint:
    """The facts of one problem; built once, used for every solution of it."""

    def __init__(self, graph: Graph) -> None:
        self.reverse = graph.unknown is not None
        self.modulus = graph.modulus
        self.answer = graph.answer
        self.end, self.known = graph.end, graph.known
        self.used = False  # whether a solution was checked against it before
        self._graph = graph
        names = graph.mentioned
        self._bits = {name: 1 << i for i, name in enumerate(names)}
        self._points = dict(zip(names, points(len(names)), strict=True))
        self._kinds = {n.counted for n in map(read_name, names) if n.kind == "total"}
        self._places = {n.place for n in map(read_name, names) if n.kind != "total"}
        self.facts: dict[str, Fact] = {}
        for name in names:
            self.facts[name] = self._fact(name)
        self.gold = graph.order
        self.gold_names = frozenset(graph.order)
        self.perfect = tuple(NodeVerdict(name, "correct") for name in graph.order)

    def _fact(self, name: str) -> Fact:
        quantity = self._graph.quantities.get(name) or self._graph.total(name)
        bit, point = self._bits[name], self._points[name]
        if quantity is None or not all(parent in self._bits for parent in quantity.parents):
            return Fact(None, bit, 0, point, None)
        code = self._graph.codes.get(name)
        if code is None and all(parent in self._graph.codes for parent in quantity.parents):
            code = quantity.compute(self._graph.codes, self.modulus)
        parents = 0
        for parent in quantity.parents:
            parents |= self._bits[parent]
        formula = code if quantity.rule == "given" else quantity.compute(self._points)
        return Fact(code, bit, parents, point, formula)

    def total(self, name: str) -> Fact | None:
        """The fact of a total that the problem implies but does not mention; None for any other name.

        Its place must hold something, and it must count what a total in the problem counts.
        """
        if not name.startswith(TOTAL) or len(name) > MAX_LENGTH:
            return None
        kind, _, place = name[len(TOTAL) :].partition(" in ")
        if kind not in self._kinds or place not in self._places:
            return None
        self._bits[name] = 1 << len(self._bits)
        self._points[name] = points(len(self._bits))[-1]
        fact = self.facts[name] = self._fact(name)
        return fact

    def names(self, mask: int) -> str:
        """The names in a mask, for messages."""
        return ", ".join(repr(name) for name, bit in self._bits.items() if mask & bit) or "none"


@lru_cache(maxsize=256)
def points(count: int) -> tuple[int, ...]:
    """The first numbers of a fixed sequence of 48-bit numbers."""
    draw = random.Random(2512_07783)
    return tuple(draw.getrandbits(48) | 1 for _ in range(count))
