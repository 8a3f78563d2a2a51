"""The gold solution of a graph, written as the published generator writes it."""

from collections.abc import Iterator, Sequence
from itertools import product
from string import ascii_lowercase, ascii_uppercase

from grammar.problem.forms import OPERATIONS, SCALES, Term
from grammar.problem.graph import Graph
from grammar.problem.linear import Linear, X, decode
from grammar.problem.quantity import Quantity
from grammar.reading.parse import parse_trace, require
from grammar.reading.shapes import UNKNOWN_BODY, is_variable, write_ending
from grammar.reading.trace import PRELUDE, Trace


def variables(*, reverse: bool) -> Iterator[str]:
    """The variables of a trace in canonical order: A..Z a..z, then two letters; in reverse never x nor X.

    Two-letter names hold no x and are no word of the language.
    """
    yield from (letter for letter in ascii_uppercase + ascii_lowercase if not (reverse and letter in "xX"))
    pairs = (a + b for a, b in product(ascii_uppercase, ascii_lowercase))
    yield from (pair for pair in pairs if "x" not in pair.lower() and is_variable(pair))


def gold_trace(graph: Graph, order: Sequence[str] | None = None, letters: Sequence[str] | None = None) -> Trace:
    """The solution of a problem as a trace; see `write_solution`."""
    return require(parse_trace(write_solution(graph, order, letters)))


def write_solution(graph: Graph, order: Sequence[str] | None = None, letters: Sequence[str] | None = None) -> str:
    """Writes the solution of a problem.

    Args:
        graph:   the problem.
        order:   the names to define, parents first; `graph.order` when None.
        letters: variables, taken one by one for each step and then for each of its intermediate results; the unknown
            is always x and takes none. Canonical (`variables`) when None.

    Returns:
        Its text, ending in "Answer: N.".

    Raises:
        ValueError: if the problem does not determine its answer, `order` is not an order of `graph.order`, or
            `letters` are too few.
    """
    if graph.answer is None:
        raise ValueError(f"write_solution: {graph.why_not}; add the missing statement or remove the contradiction.")
    if not graph.solvable:
        raise ValueError(f"write_solution: {graph.question!r} follows only from several equations; state what it is made of.")
    order = graph.order if order is None else order
    reverse = graph.unknown is not None
    writer = _Writer(graph, variables(reverse=reverse) if letters is None else iter(letters))
    sentences = [PRELUDE] if reverse else []
    sentences += [writer.step(name) for name in order]
    # each stands after its parents (`step`); if each but the last is used, they are the ancestors of the last
    if order[-1] != graph.end or {p for name in order for p in graph.definitions[name].parents} != {*order[:-1]}:
        raise ValueError(f"write_solution: order {list(order)} is not an order of {list(graph.order)} ending with its last.")
    if reverse:
        sentences.append(writer.ending())
    return f"{' '.join(sentences)} Answer: {graph.answer}."


class _Writer:
    """Writes steps one by one, and remembers the letters they declare."""

    def __init__(self, graph: Graph, letters: Iterator[str]) -> None:
        self.graph = graph
        self.letters = letters
        self.letter_of: dict[str, str] = {}
        self.reverse = graph.unknown is not None
        self.parts: list[str] = []  # statements of the step being written

    def draw(self) -> str:
        letter = next(self.letters, None)
        if letter is None:
            raise ValueError(f"write_solution: the letters ran out after {len(self.letter_of)} steps; pass one per result.")
        return letter

    def step(self, name: str) -> str:
        """The sentence that defines `name`."""
        quantity = self.graph.definitions[name]
        if name in self.letter_of or any(parent not in self.letter_of for parent in quantity.parents):
            raise ValueError(f"write_solution: {name!r} stands twice or before its parents; put each name once, parents first.")
        unknown = quantity.rule == "unknown"
        letter = self.letter_of[name] = "x" if unknown else self.draw()
        return f"Define {name} as {letter}; {UNKNOWN_BODY if unknown else self.body(quantity, letter)}."

    def body(self, quantity: Quantity, letter: str) -> str:
        """What follows "Define .. as LETTER; "."""
        value = self.show(self.graph.codes[quantity.name])
        if quantity.rule == "given":
            return f"so {letter} = {value}"
        self.parts = []
        terms = [(self.letter_of[parent], self.graph.codes[parent]) for parent in quantity.parents]
        lead, sign, operands = quantity.form.operands(terms)
        terms = [term if len(term) == 2 else self.join(term[0], self.draw(), *term[1:]) for term in operands]
        if quantity.scale is not None and quantity.constant is not None:
            inner = self.fold(sign, terms)
            sign, terms = SCALES[quantity.scale], [(str(quantity.constant), quantity.constant), inner]
        elif len(terms) > 2:
            terms = [self.fold(sign, terms[:-1]), terms[-1]]
        if len(terms) == 1:
            self.parts.append(f"{lead}{letter} = {terms[0][0]} = {value}")
        else:
            self.join(sign, f"{lead}{letter}", *terms)
        return "; ".join(self.parts)

    def fold(self, sign: str, terms: list[Term]) -> Term:
        """Writes terms into one intermediate letter, two at a time."""
        total = terms[0]
        if len(terms) == 1:
            letter = self.draw()
            self.parts.append(f"{letter} = {total[0]} = {self.show(total[1])}")
            return letter, total[1]
        for term in terms[1:]:
            total = self.join(sign, self.draw(), total, term)
        return total

    def join(self, sign: str, target: str, a: Term, b: Term) -> Term:
        """Writes one operation, "I = U + W = 7 + 8 = 15"."""
        code = OPERATIONS[sign](a[1], b[1])
        if self.graph.modulus is not None:
            code %= self.graph.modulus
        left, right = self.show(a[1]), self.show(b[1])
        if self.reverse and sign != "+":
            left, right = f"({left})", f"({right})"
        self.parts.append(f"{target} = {a[0]} {sign} {b[0]} = {left} {sign} {right} = {self.show(code)}")
        return target, code

    def show(self, code: int) -> str:
        return str(decode(code)) if self.reverse else str(code)

    def ending(self) -> str:
        graph, form = self.graph, decode(self.graph.codes[self.graph.end])
        known = graph.known
        assert isinstance(form, Linear)
        assert known is not None
        slope, rest = form.slope, known - form.constant
        letter, moved = self.letter_of[graph.end], decode(slope * X - rest)
        sides = (form, known, form, known, moved, 0, f"{slope}*x", rest)
        return write_ending(letter, known, *sides, slope, "x", rest, slope, "x", graph.answer)
