"""The dependency graph of a problem: its sentences as data, what follows from them, what it asks.

A `Graph` holds exactly what the text says: one `Quantity` per sentence, in text order, and the question. The rest is
computed when asked for: implied totals, values, the order of a solution, the operation count, and whether the text
determines its answer. Not here: text (reading, writing), linear equations (solve).

Does the text determine its answer? It is a linear system. A quantity whose definition depends on a cycle is ignored. A total
is the sum of all quantities of its place that are mentioned anywhere. What is mentioned but not defined is free. Two
statements about one quantity are two equations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from grammar.problem.linear import Linear, LinearForm, Number, decode, eliminate, in_bounds, substitute
from grammar.problem.names import Name, read_name
from grammar.problem.quantity import Quantity

_MAX_FREE = 64  # free quantities; more are not solved for
Verdict = tuple[Fraction | int | None, str | None]


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
        found: dict[str, Quantity] = {}
        for name in self.mentioned:
            held = chosen.get(name)
            # a total is never in a problem's text, but in a graph read from a solution
            if read_name(name).kind == "total" and (held is None or held.form.stated):
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
    def _places(self) -> tuple[dict[str, list[str]], dict[str, list[Name]], list[set[str]]]:
        """Place -> counts mentioned there; place -> averages mentioned there; the words of what averages count."""
        counts: dict[str, list[str]] = {}
        averages: dict[str, list[Name]] = {}
        for name in map(read_name, self.mentioned):
            if name.kind == "count":
                counts.setdefault(name.place, []).append(name.text)
            elif name.kind == "average":
                averages.setdefault(name.place, []).append(name)
        counted = {average.counted for place in averages.values() for average in place}
        return counts, averages, [set(words.split()) for words in counted]

    def total(self, name: str) -> Quantity | None:
        """A total as the sum of what its place holds; None for another name, or a place that holds nothing.

        A total counts what averages count ("newborn animal children", where averages are of "newborn children") when
        its words include all of theirs; then it is a sum of products.
        """
        total = read_name(name)
        if total.kind != "total":
            return None
        counts, averages, counted = self._places
        if any(words <= set(total.counted.split()) for words in counted):
            pairs = [(_count_of(average), average.text) for average in averages.get(total.place, ())]
            return Quantity(name, "products", tuple(part for pair in pairs for part in pair)) if pairs else None
        parents = counts.get(total.place)
        return Quantity(name, "total", tuple(parents)) if parents else None

    @cached_property
    def unknown(self) -> str | None:
        """The name that traces call x: the one that only "exists"; None in a forward problem."""
        return next((name for name, quantity in self.quantities.items() if quantity.rule == "unknown"), None)

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
        return tuple(_topological(self.quantities, self.quantities, self.undefined))

    @cached_property
    def codes(self) -> dict[str, int]:
        """Name -> value as an integer code (`linear`), for all that can be computed from the problem's sentences."""
        codes: dict[str, int] = {}
        for name in self.sorted_names:
            try:
                code = self.quantities[name].compute(codes, self.modulus)
            except KeyError:  # a parent has no value
                continue
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

    def compositions(self) -> set[str]:
        """Pairs of skills that meet: "A > B" if a quantity that B computes reads one that A computes."""
        found = self.quantities
        return {f"{found[p].skill} > {q.skill}" for q in found.values() for p in q.parents if p in found}

    @cached_property
    def verdict(self) -> Verdict:
        """The number that the text fixes for the question (or None), and why it is no answer (or None)."""
        if self.question not in self.quantities and self.question not in self.undefined:
            return None, f"nothing is said about {self.question!r}"
        if not self.restated and not self.free:
            value = self.codes.get(self.question)
            return (value, None) if value is not None else (None, f"{self.question!r} depends on itself or is too large")
        if self.free == (self.question,) and len(self.restated) == 1 and self.unknown is not None and self.modulus is None:
            known = self.restated[0]
            form = decode(self.codes.get(known.name, 0))
            if known.rule == "given" and isinstance(form, Linear):  # most problems in reverse: one equation a*x + b = K
                return self._conclude(Fraction(known.constant - form.constant, form.slope))
        if len(self.free) > _MAX_FREE:
            return None, f"{len(self.free)} quantities are mentioned but not defined"
        forms = self._linear_forms()
        if self.question not in forms:
            return None, f"{self.question!r} depends on itself, on a product of unknowns, or is too large"
        further = ((forms.get(s.name), s.linear(forms)) for s in self.restated)
        equations = (form - other for form, other in further if form is not None and other is not None)
        solution = eliminate(equations, self.modulus)
        if solution is None:
            return None, "two statements contradict each other"
        return self._conclude(substitute(forms[self.question], solution))

    def _linear_forms(self) -> dict[str, LinearForm | Number]:
        """Name -> what it is in free quantities, for all that are linear in them."""
        forms: dict[str, LinearForm | Number] = {name: LinearForm({name: 1}) for name in self.free}
        for name in self.sorted_names:
            form = self.quantities[name].linear(forms) if name not in forms else None
            if form is not None:
                forms[name] = form
        return forms

    def _conclude(self, found: LinearForm | Number) -> Verdict:
        """The verdict, from what the question equals."""
        if isinstance(found, LinearForm):
            reached = "a definition is missing" if self.undefined else "nothing else is known of what depends on it"
            return None, f"{next(filter(None, found))!r} stays free: {reached}"
        value = Fraction(found)
        if value.denominator != 1:
            return value, f"{self.question!r} would be {value}, which is no integer"
        return (value if self.modulus is None else value % self.modulus), None

    @property
    def answer(self) -> int | None:
        """The number asked for; None if the text does not determine an integer."""
        number, why_not = self.verdict
        return int(number) if why_not is None else None

    @property
    def well_posed(self) -> bool:
        """Whether the text alone determines the answer."""
        return self.verdict[1] is None

    @property
    def why_not(self) -> str | None:
        """Why the text determines no answer; None if it does."""
        return self.verdict[1]

    @cached_property
    def derived(self) -> dict[str, object]:
        """What other modules derive from it, each under its own key; kept as long as the graph."""
        return {}


def _count_of(average: Name) -> str:
    return f"{average.item} in {average.place}" if average.place else average.item


def _topological(quantities: Mapping[str, Quantity], goals: Iterable[str], leaves: Iterable[str] = ()) -> list[str]:
    """Goals and their ancestors, parents first; what depends on a cycle, or on an undefined name not in `leaves`, is left out."""
    done: dict[str, bool | None] = dict.fromkeys(leaves, True)  # name -> usable; None while its parents are being visited
    order: list[str] = []
    for goal in goals:
        stack = [goal] if goal not in done and goal in quantities else []
        while stack:
            name = stack[-1]
            parents = quantities[name].parents
            if name not in done:
                unvisited = [parent for parent in parents if parent not in done and parent in quantities]
                if unvisited:
                    done[name] = None
                    stack += unvisited[::-1]
                    continue
            elif done[name] is not None:
                stack.pop()
                continue
            stack.pop()
            done[name] = all([done.get(parent) for parent in parents])
            if done[name]:
                order.append(name)
    return order
