"""What a problem says of each name, in the form that checking needs: one `Fact` per name.

Whether a step computes what the problem says (the sum, not the product, of these two) is decided by evaluating both at
one random point, drawn by each process: every name stands for a large number, and two polynomials that agree there are the
same except with probability below 2**-40. Sets of parents are bit masks.
"""

from random import SystemRandom
from typing import NamedTuple

from grammar.checking.report import NodeVerdict
from grammar.problem.graph import Graph
from grammar.problem.names import Name, read_name

STRAY_BIT = 1  # of every name that no problem mentions
_POINTS: list[int] = []  # the numbers that names stand for, by the place of their bits


def point(place: int) -> int:
    """A 48-bit number, the same as long as the process lives."""
    while len(_POINTS) <= place:
        _POINTS.append(SystemRandom().getrandbits(48) | 1)
    return _POINTS[place]


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
    counts, over a place that holds something. Facts are computed, and names get their bits, when asked for.
    """

    def __init__(self, graph: Graph) -> None:
        self.reverse = graph.unknown is not None
        self.modulus = graph.modulus
        self.answer = graph.answer
        self.end, self.known = graph.end, graph.known
        self.unsolvable = self.answer is not None and not graph.solvable
        self._graph = graph
        self._mentioned = {name: i for i, name in enumerate(graph.mentioned)}
        self._places: dict[str, int] = {}  # name -> the place of its bit
        self._facts: dict[str, Fact] = {}
        self._implied: tuple[set[str], set[str]] | None = None
        self.gold = () if self.unsolvable else graph.order
        self.gold_names = frozenset(self.gold)
        self.computed = tuple(name for name in self.gold if graph.definitions[name].op > 1)
        self.perfect = tuple(NodeVerdict(name, "correct") for name in self.gold)
        for name in self.gold:
            self._facts[name] = self._fact(name)
        self.end_point = point(self._place(self.end))

    def fact(self, name: str) -> Fact | None:
        """What the problem says of a name; None if it fixes no value."""
        if name not in self._facts:
            if name not in self._mentioned and not self._implies(name):
                return None
            self._facts[name] = self._fact(name)
        fact = self._facts[name]
        return fact if fact.code is not None else None

    def _implies(self, text: str) -> bool:
        """Whether a name is a total of a kind and over a place that the problem mentions."""
        try:
            name = read_name(text)
        except ValueError:
            return False
        if self._implied is None:
            read: list[Name] = [*map(read_name, self._mentioned)]
            totals = {found.counted for found in read if found.kind == "total"}
            self._implied = totals, {found.place for found in read if found.kind != "total"}
        kinds, places = self._implied
        return name.kind == "total" and name.counted in kinds and name.place in places

    def _place(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places) + 1)

    def _fact(self, name: str) -> Fact:
        graph, place = self._graph, self._place(name)
        quantity = graph.definitions.get(name) or graph.total(name)
        if quantity is None or not all(parent in self._mentioned for parent in quantity.parents):
            return Fact(None, 1 << place, 0, point(place), None)
        code = graph.codes.get(name)
        if code is None and all(parent in graph.codes for parent in quantity.parents):
            code = quantity.compute(graph.codes, self.modulus)
        parents, points = 0, {}
        for parent in quantity.parents:
            at = self._place(parent)
            parents |= 1 << at
            points[parent] = point(at)
        formula = quantity.formula(points, graph.codes) if parents and code is not None else code
        return Fact(code, 1 << place, parents, point(place), formula)

    def names(self, mask: int) -> str:
        """The names in a mask, for messages, in the order in which the problem mentions them."""
        found = [name for name, place in self._places.items() if mask >> place & 1]
        found.sort(key=lambda name: (self._mentioned.get(name, len(self._mentioned)), name))
        return ", ".join(map(repr, found)) or "none"


def facts_of(graph: Graph) -> ProblemFacts:
    """The facts of a problem, kept with its graph."""
    facts = graph.derived.get("facts")
    if not isinstance(facts, ProblemFacts):
        facts = graph.derived["facts"] = ProblemFacts(graph)
    return facts
