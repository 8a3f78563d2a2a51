"""The dependency graph of a problem: its sentences as data, what follows from them, what it asks.

A `Graph` holds exactly what the text says: one `Quantity` per sentence, in text order, and the question. The rest is
computed when asked for: implied totals, values, the order of a solution, the operation count. Not here: text (reading,
writing), and the number that the text fixes (determined).

How does an answer follow? Forward, the question is computed from numbers given. In reverse the question is x: it "exists", or is
mentioned and not defined, and a quantity whose value is a*x + b is given as a number. A quantity is what computes it; if that
needs what nothing fixes, it is the number given for it. Where an answer follows in neither way (only from several
equations, or from one in another unknown), no solution can state how: the problem is not `solvable`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from grammar.problem.determined import Verdict, verdict_of
from grammar.problem.linear import MAX_VALUE, NAN, TOP, Linear, X, decode, in_bounds
from grammar.problem.names import TOTAL, Name, read_name
from grammar.problem.quantity import Quantity, topological

MOST_OPS = 1023  # of a problem that is evaluated: what is summed by operations has this many places
_MOST_SEARCHED = 10**8  # characters to look for names in, times names


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
        read_name(self.question)
        if self.modulus is None:
            return
        if type(self.modulus) is not int or self.modulus < 2 or any(s.rule == "unknown" for s in self.statements):
            raise ValueError(f"Graph: modulus={self.modulus!r}; expected None or at least 2, and no unknown with it.")

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
        found: dict[str, Quantity] = {}
        for name in self.mentioned:
            held = chosen.get(name)
            # a total is never in a problem's text, but in a graph read from a solution
            if name.startswith(TOTAL) and (held is None or held.form.stated):
                held = self.total(name) or held
            if held is not None:
                found[name] = held
        return found

    @cached_property
    def restated(self) -> tuple[Quantity, ...]:
        """Statements that are further equations about their quantity, not its definition."""
        return tuple(s for s in self.statements if s.rule != "unknown" and s is not self.quantities[s.name])

    @cached_property
    def undefined(self) -> tuple[str, ...]:
        """Names mentioned that nothing defines."""
        return tuple(name for name in self.mentioned if name not in self.quantities)

    @cached_property
    def free(self) -> tuple[str, ...]:
        """Names whose number only equations can fix: unknowns and undefined ones."""
        unknowns = tuple(name for name, quantity in self.quantities.items() if quantity.rule == "unknown")
        return unknowns + self.undefined

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

    @cached_property
    def _names(self) -> list[Name]:
        """The names mentioned, taken apart."""
        return [*map(read_name, self.mentioned)]

    @cached_property
    def _places(self) -> tuple[dict[str, list[str]], dict[str, list[Name]], dict[str, list[set[str]]]]:
        """Place -> counts mentioned there; place -> averages there; the words of what averages count, by the rarest of them."""
        counts: dict[str, list[str]] = {}
        averages: dict[str, list[Name]] = {}
        for name in self._names:
            if name.kind == "count":
                counts.setdefault(name.place, []).append(name.text)
            elif name.kind == "average":
                averages.setdefault(name.place, []).append(name)
        counted = [set(words.split()) for words in {average.counted for place in averages.values() for average in place}]
        often = Counter(word for words in counted for word in words)
        by_word: dict[str, list[set[str]]] = {}
        for words in counted:
            by_word.setdefault(min(words, key=often.__getitem__), []).append(words)
        return counts, averages, by_word

    @cached_property
    def terms(self) -> int:
        """How many quantities its totals add up, all together."""
        totals = [name.place for name in self._names if name.kind == "total"]
        counts, averages, _ = self._places
        return sum(len(counts.get(place, ())) + len(averages.get(place, ())) for place in totals)

    def total(self, name: str) -> Quantity | None:
        """A total as the sum of what its place holds; None for another name, or a place that holds nothing.

        A total counts what averages count ("newborn animal children", where averages are of "newborn children") when
        its words include all of theirs; then it is a sum of products.
        """
        total = read_name(name)
        if total.kind != "total":
            return None
        counts, averages, counted = self._places
        mine = set(total.counted.split())
        if any(words <= mine for word in mine for words in counted.get(word, ())):
            pairs = [(_count_of(average), average.text) for average in averages.get(total.place, ())]
            return Quantity(name, "products", tuple(part for pair in pairs for part in pair)) if pairs else None
        parents = counts.get(total.place)
        return Quantity(name, "total", tuple(parents)) if parents else None

    @cached_property
    def unknown(self) -> str | None:
        """The name that traces call x: the question, if only an equation can fix it; None in a forward problem."""
        return self.question if self.modulus is None and self.question in self.free else None

    @cached_property
    def _goal(self) -> tuple[str, int | None]:
        """The name a trace ends with, and the number stated for it besides its definition."""
        if self.unknown is None:
            return self.question, None
        known = [s for s in self.restated if s.rule == "given"]
        known.sort(key=lambda s: not isinstance(self.values.get(s.name), Linear))  # stable: the first that holds x
        return (known[0].name, known[0].constant) if known else (self.question, None)

    @property
    def end(self) -> str:
        """The name a trace ends with: the question, or in reverse the name with both a definition and a number."""
        return self._goal[0]

    @property
    def known(self) -> int | None:
        """In reverse, the number stated for the end; None in a forward problem."""
        return self._goal[1]

    @cached_property
    def sorted_names(self) -> tuple[str, ...]:
        """All that is defined without a cycle, parents first; what depends on undefined names included."""
        return tuple(topological(self.quantities, self.quantities, self.undefined))

    @cached_property
    def _computed(self) -> tuple[dict[str, Quantity], dict[str, int]]:
        """`definitions` and `codes`."""
        definitions, codes = dict(self.quantities), {}
        x = self.unknown or next((name for name in self.free if name in definitions), None)
        if x is not None and x not in definitions:
            definitions[x], codes[x] = Quantity(x, "unknown"), X
        given = {s.name: s for s in reversed(self.restated) if s.rule == "given"}
        most = TOP if self.unknown is not None else MAX_VALUE  # forward, no solution computes with x
        open_ones = {name for name in self.free if name != x}
        for name in self.sorted_names:
            try:
                code = definitions[name].compute(codes, self.modulus) if name not in open_ones else NAN
            except KeyError:  # a parent has no value
                code = NAN
            if name in given and not (in_bounds(code) and -most <= code <= most):
                definitions[name] = given[name]
                code = given[name].compute(codes, self.modulus)
            if in_bounds(code):
                codes[name] = code
        return definitions, codes

    @property
    def definitions(self) -> dict[str, Quantity]:
        """Name -> what a solution says of it: as `quantities`, but the number given where what computes it stays open."""
        return self._computed[0]

    @property
    def codes(self) -> dict[str, int]:
        """Name -> value as an integer code (`linear`), for all that can be computed from the problem's sentences."""
        return self._computed[1]

    @cached_property
    def values(self) -> dict[str, int | Linear]:
        """Name -> its value, or in reverse the exact linear form in x that it equals."""
        return {name: decode(code) for name, code in self.codes.items()}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """What a solution defines: the ancestors of its end, parents first, the end last."""
        return tuple(topological(self.definitions, (self.end,)))

    @cached_property
    def op(self) -> int:
        """Number of operations: operands counted over the steps of `order`."""
        return sum(self.definitions[name].op for name in self.order)

    def compositions(self) -> set[str]:
        """Pairs of skills that meet: "A > B" if a quantity that B computes reads one that A computes."""
        found = self.quantities
        return {f"{found[p].skill} > {q.skill}" for q in found.values() for p in q.parents if p in found}

    @cached_property
    def verdict(self) -> Verdict:
        """The number that the text fixes for the question (or None), and why it is no answer (or None)."""
        return verdict_of(self)

    def may_depend_on(self, sentences: Sequence[str]) -> bool:
        """Whether sentences that are not understood may say something that the answer depends on.

        They may if they mention a quantity that a solution defines, or the place of a total that one does, or if they are so long
        that it would take long to tell.
        """
        names = [read_name(name) for name in (self.order if self.solvable else self.mentioned)]
        text = "\n".join(sentences)
        if len(text) * len(names) > _MOST_SEARCHED:
            return True
        return bool(text) and any(name.text in text or (name.kind == "total" and name.place in text) for name in names)

    @property
    def answer(self) -> int | None:
        """The number asked for; None if the text does not determine an integer."""
        number, why_not = self.verdict
        return int(number) if number is not None and why_not is None else None

    @property
    def well_posed(self) -> bool:
        """Whether the text alone determines the answer."""
        return self.verdict[1] is None

    @property
    def why_not(self) -> str | None:
        """Why the text determines no answer; None if it does."""
        return self.verdict[1]

    @cached_property
    def solvable(self) -> bool:
        """Whether a solution can state how the answer follows: by computing, or by one equation in what is asked."""
        if self.answer is None:
            return False
        code = self.codes.get(self.end)
        if self.unknown is None:
            return code == self.answer
        return self.known is not None and code is not None and isinstance(decode(code), Linear)

    @cached_property
    def derived(self) -> dict[str, object]:
        """What other modules derive from it, each under its own key; kept as long as the graph."""
        return {}


def _count_of(average: Name) -> str:
    return f"{average.item} in {average.place}" if average.place else average.item
