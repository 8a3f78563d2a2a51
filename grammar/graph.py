"""The dependency graph of a problem: its sentences as data, what follows from them, what it asks.

A `Graph` holds exactly what the text says: one `Quantity` per sentence, in text order, and the question. The rest is
computed when asked for: implied totals, values, the order of a solution, the operation count, and whether the text
determines its answer. Not here: text (parse, render), gold solutions (solution), linear systems (solve).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from grammar.linear import MAX_NUMBER, Linear, X, decode, in_bounds
from grammar.names import read_name

Rule = Literal["given", "copy", "sum", "difference", "total", "products", "unknown"]
Scale = Literal["plus", "times"]

_PARENTS: dict[str, tuple[int, float]] = {  # rule -> fewest and most parents
    "given": (0, 0),
    "unknown": (0, 0),
    "copy": (1, 1),
    "sum": (2, float("inf")),
    "difference": (2, 2),
    "total": (1, float("inf")),
    "products": (2, float("inf")),
}
_SCALABLE = ("copy", "sum", "difference")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One node, or one sentence about it.

    name:     what it is called ("adult owl in South Zoo", "total number of movies in Verdi Movie Festival", "roses").
    rule:     how its value comes about. "products" sums products of parents taken two by two (count, average, ...).
    parents:  names in reading order; empty exactly for "given" and "unknown".
    constant: the number of a "given", or c of "c plus ..." and "c times ..."; else None.
    scale:    "plus" or "times" where such a c stands before the rest; else None.

    Raises:
        ValueError: for a combination that no sentence can say.
    """

    name: str
    rule: Rule
    parents: tuple[str, ...] = ()
    constant: int | None = None
    scale: Scale | None = None

    def __post_init__(self) -> None:
        """Refuses what no sentence can say."""
        if self.rule not in _PARENTS:
            raise ValueError(f"Quantity {self.name!r}: unknown rule {self.rule!r}; choose from {', '.join(_PARENTS)}.")
        read_name(self.name)
        fewest, most = _PARENTS[self.rule]
        if not fewest <= len(self.parents) <= most or (self.rule == "products" and len(self.parents) % 2):
            raise ValueError(f"Quantity {self.name!r}: rule {self.rule!r} does not take {len(self.parents)} parents.")
        if self.scale is not None and (self.scale not in ("plus", "times") or self.rule not in _SCALABLE):
            raise ValueError(f"Quantity {self.name!r}: scale {self.scale!r} does not fit rule {self.rule!r}.")
        if (self.constant is not None) != (self.rule == "given" or self.scale is not None):
            raise ValueError(
                f"Quantity {self.name!r}: constant={self.constant} does not fit rule {self.rule!r} with scale={self.scale}; "
                "a 'given' and a scaled quantity have one, others have none."
            )
        if self.constant is not None and not 0 <= self.constant <= MAX_NUMBER:
            raise ValueError(f"Quantity {self.name!r}: constant {self.constant} is not within 0..{MAX_NUMBER}.")

    @property
    def op(self) -> int:
        """Operand count: a leaf 1, the unknown 1, each reference 1, a constant 1."""
        return len(self.parents) + (self.constant is not None) or 1

    def compute(self, codes: Mapping[str, int], modulus: int | None = None) -> int:
        """Its value as an integer code (`linear`), from the codes of its parents.

        Raises:
            KeyError: if a parent has no value.
        """
        match self.rule:
            case "given":
                value = self.constant
            case "unknown":
                return X
            case "difference":
                value = codes[self.parents[0]] - codes[self.parents[1]]
            case "products":
                value = sum(codes[a] * codes[b] for a, b in zip(self.parents[::2], self.parents[1::2], strict=True))
            case _:
                value = sum(codes[parent] for parent in self.parents)
        if self.scale == "plus":
            value += self.constant
        elif self.scale == "times":
            value *= self.constant
        return value if modulus is None else value % modulus


@dataclass(frozen=True)
class Graph:
    """A problem.

    statements: its sentences in text order; two about one name are two equations.
    question:   the name asked for.
    modulus:    every result is taken modulo this; None in ordinary arithmetic.

    Raises:
        ValueError: for a modulus below 2, or one in a problem with an unknown.
    """

    statements: tuple[Quantity, ...]
    question: str
    modulus: int | None = None

    def __post_init__(self) -> None:
        """Refuses a modulus that has no meaning."""
        read_name(self.question)
        if self.modulus is not None and (self.modulus < 2 or any(s.rule == "unknown" for s in self.statements)):
            raise ValueError(f"Graph: modulus={self.modulus}; expected None or at least 2, and no unknown with it.")

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """Name -> what defines it, implied totals included, in order of first mention; undefined names are absent.

        A computed definition comes before a given number, a given number before "exists".
        """
        rank = {"given": 1, "unknown": 2}
        chosen: dict[str, Quantity] = {}
        for statement in self.statements:
            held = chosen.get(statement.name)
            if held is None or rank.get(statement.rule, 0) < rank.get(held.rule, 0):
                chosen[statement.name] = statement
        implied = self._implied_totals()
        return {name: implied.get(name) or chosen[name] for name in self.mentioned if name in implied or name in chosen}

    @cached_property
    def mentioned(self) -> tuple[str, ...]:
        """Every name in the problem, the question included, in order of first mention."""
        names: dict[str, None] = {}
        for statement in self.statements:
            names[statement.name] = None
            for parent in statement.parents:
                names[parent] = None
        names[self.question] = None
        return tuple(names)

    def _implied_totals(self) -> dict[str, Quantity]:
        """The totals mentioned, each as the sum of what its place holds; a place that holds nothing implies none.

        A total counts what averages count ("newborn animal children", where averages are of "newborn children") when
        all words of theirs are in its own; then it is a sum of products.
        """
        names = [read_name(name) for name in self.mentioned]
        totals = [name for name in names if name.kind == "total"]
        if not totals:
            return {}
        averages = {(n.place, n.item): n for n in names if n.kind == "average"}
        counted_words = [set(words.split()) for words in {n.counted for n in averages.values()}]
        counts: dict[str, list[str]] = {}
        for name in names:
            if name.kind == "count":
                counts.setdefault(name.place, []).append(name.text)
        implied: dict[str, Quantity] = {}
        for total in totals:
            if any(words <= set(total.counted.split()) for words in counted_words):
                pairs = [(_count_of(n.item, n.place), n.text) for n in averages.values() if n.place == total.place]
                parents, rule = tuple(name for pair in pairs for name in pair), "products"
            else:
                parents, rule = tuple(counts.get(total.place, ())), "total"
            if parents:
                implied[total.text] = Quantity(total.text, rule, parents)
        return implied

    @cached_property
    def unknown(self) -> str | None:
        """The name that traces call x: the one that only "exists"; None in a forward problem."""
        return next((name for name, quantity in self.quantities.items() if quantity.rule == "unknown"), None)

    @cached_property
    def _goal(self) -> tuple[str, int | None]:
        """Where a trace ends, and the number known of it besides its definition."""
        if self.unknown is None:
            return self.question, None
        known = [s for s in self.statements if s.rule == "given" and s is not self.quantities[s.name]]
        known.sort(key=lambda s: not isinstance(self.values.get(s.name), Linear))  # stable: the first that holds x
        return (known[0].name, known[0].constant) if known else (self.question, None)

    @property
    def end(self) -> str:
        """The name a trace ends with: the question, or in reverse the one whose number is known besides."""
        return self._goal[0]

    @property
    def known(self) -> int | None:
        """In reverse, the number known of the end; None in a forward problem."""
        return self._goal[1]

    @cached_property
    def codes(self) -> dict[str, int]:
        """Name -> value as an integer code (`linear`), for all that can be computed from the problem's sentences."""
        codes: dict[str, int] = {}
        for name in _topological(self.quantities, self.quantities):
            quantity = self.quantities[name]
            if all(parent in codes for parent in quantity.parents):
                code = quantity.compute(codes, self.modulus)
                if in_bounds(code):
                    codes[name] = code
        return codes

    @cached_property
    def values(self) -> dict[str, int | Linear]:
        """Name -> its value, or in reverse the exact linear form in x that it equals."""
        return {name: decode(code) for name, code in self.codes.items()}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """What a solution defines: the ancestors of its end, parents first, the end last."""
        return tuple(_topological(self.quantities, (self.end,)))

    @cached_property
    def op(self) -> int:
        """Number of operations: operands counted over the steps of `order`."""
        return sum(self.quantities[name].op for name in self.order)

    @cached_property
    def verdict(self) -> "tuple[int | None, str | None]":
        """The answer and None, or None and why the text determines no answer."""
        from grammar.solve import solve  # solve reads graphs

        return solve(self)

    @property
    def answer(self) -> int | None:
        """The number asked for; None where the text does not determine it."""
        return self.verdict[0]

    @property
    def well_posed(self) -> bool:
        """Whether the text alone determines the answer."""
        return self.verdict[0] is not None

    @property
    def why_not(self) -> str | None:
        """Why the text determines no answer; None where it does."""
        return self.verdict[1]


def _count_of(item: str, place: str) -> str:
    return f"{item} in {place}" if place else item


def _topological(quantities: Mapping[str, Quantity], goals: Iterable[str]) -> list[str]:
    """Goals and their ancestors, parents first; whatever depends on a cycle or on an undefined name is left out."""
    done: dict[str, bool] = {}  # name -> usable; absent while untouched, False while its parents are being visited
    order: list[str] = []
    for goal in goals:
        stack: list[tuple[str, Sequence[str], int]] = [(goal, (), -1)]
        while stack:
            name, parents, seen = stack.pop()
            if seen < 0:
                if name in done or name not in quantities:
                    continue
                done[name] = False
                parents, seen = quantities[name].parents, 0
            if seen < len(parents):
                stack.append((name, parents, seen + 1))
                stack.append((parents[seen], (), -1))
            elif all(done.get(parent, False) for parent in parents):
                done[name] = True
                order.append(name)
    return order
