"""The gold solution of a graph, written as the published generator writes it."""

from collections.abc import Iterator, Sequence
from itertools import islice, product
from string import ascii_lowercase, ascii_uppercase

from grammar.graph import Graph, Quantity
from grammar.linear import X, decode
from grammar.trace import PRELUDE, UNKNOWN_BODY, Step, Trace

_WORDS = {
    "as",
    "be",
    "by",
    "do",
    "go",
    "he",
    "if",
    "in",
    "is",
    "it",
    "me",
    "my",
    "no",
    "of",
    "on",
    "or",
    "so",
    "to",
    "up",
    "us",
    "we",
}


def variables(*, reverse: bool) -> Iterator[str]:
    """The variables of a trace in canonical order: A..Z a..z, then two letters; in reverse never x nor X.

    Two-letter names hold no x and are no word of the language.
    """
    yield from (letter for letter in ascii_uppercase + ascii_lowercase if not (reverse and letter in "xX"))
    pairs = (a + b for a, b in product(ascii_uppercase, ascii_lowercase))
    yield from (pair for pair in pairs if "x" not in pair.lower() and pair.lower() not in _WORDS)


def gold_trace(graph: Graph, order: Sequence[str] | None = None, letters: Sequence[str] | None = None) -> Trace:
    """Writes the solution of a problem.

    Args:
        graph:   the problem.
        order:   the names to define, parents first; `graph.order` when None.
        letters: variables, taken one by one for each step and then for each of its intermediate results; the unknown
            is always x and takes none. Canonical (`variables`) when None.

    Returns:
        The trace, ending in "Answer: N.".

    Raises:
        ValueError: if the problem does not determine its answer, `order` is not an order of `graph.order`, or
            `letters` are too few.
    """
    if graph.answer is None:
        raise ValueError(f"gold_trace: {graph.why_not}; mend the problem.")
    order = graph.order if order is None else order
    writer = _Writer(graph, variables(reverse=graph.unknown is not None) if letters is None else iter(letters))
    start = len(PRELUDE) + 1 if graph.unknown is not None else 0
    steps = []
    for name in order:
        step = writer.step(name, start)
        steps.append(step)
        start = step.end + 1
    if len(steps) != len(graph.order) or set(order) != set(graph.order) or order[-1] != graph.end:
        raise ValueError(
            f"gold_trace: order {list(order)} is not an order of {list(graph.order)} ending with its last."
        )
    return Trace(tuple(steps), prelude=graph.unknown is not None, tail=writer.tail(), answer=graph.answer)


class _Writer:
    """Writes steps one after the other, and remembers the letters they declare."""

    def __init__(self, graph: Graph, letters: Iterator[str]) -> None:
        self.graph = graph
        self.letters = letters
        self.letter_of: dict[str, str] = {}
        self.reverse = graph.unknown is not None

    def draw(self) -> str:
        """The next free variable."""
        for letter in islice(self.letters, 1):
            return letter
        raise ValueError(f"gold_trace: the letters ran out after {len(self.letter_of)} steps; pass one per result.")

    def step(self, name: str, start: int) -> Step:
        """The sentence that defines `name`, standing at offset `start`."""
        graph, quantity = self.graph, self.graph.quantities[name]
        if name in self.letter_of or any(parent not in self.letter_of for parent in quantity.parents):
            raise ValueError(
                f"gold_trace: {name!r} stands before its parents or twice in the order; define parents first."
            )
        letter = self.letter_of[name] = "x" if quantity.rule == "unknown" else self.draw()
        body = UNKNOWN_BODY if quantity.rule == "unknown" else self.body(quantity, letter, graph.codes[name])
        return Step(name, letter, body, start, start + len(name) + len(letter) + len(body) + 14)

    def body(self, quantity: Quantity, letter: str, code: int) -> str:
        """What follows "Define .. as LETTER; "."""
        if quantity.rule == "given":
            return f"so {letter} = {code}"
        terms = [(self.letter_of[parent], self.graph.codes[parent]) for parent in quantity.parents]
        parts: list[str] = []
        if quantity.rule == "products" and len(terms) > 2:
            terms = [self.join("*", a, b, parts) for a, b in zip(terms[::2], terms[1::2], strict=True)]
            lead = ""
        else:
            lead = "so "
        sign = {"difference": "-", "products": "*"}.get(quantity.rule, "+")
        if quantity.scale is not None:
            inner = self.fold(sign, terms, parts)
            sign, constant = ("+" if quantity.scale == "plus" else "*"), quantity.constant
            terms = [(str(constant), constant), inner]
        elif len(terms) > 2:
            terms = [self.fold(sign, terms[:-1], parts), terms[-1]]
        if len(terms) == 1:
            parts.append(f"{lead}{letter} = {terms[0][0]} = {self.show(code)}")
        else:
            self.join(sign, *terms, parts, target=letter, lead=lead)
        return "; ".join(parts)

    def fold(self, sign: str, terms: list[tuple[str, int]], parts: list[str]) -> tuple[str, int]:
        """Writes terms into one intermediate letter, two at a time; returns that letter and its value."""
        if len(terms) == 1:
            letter, (operand, code) = self.draw(), terms[0]
            parts.append(f"{letter} = {operand} = {self.show(code)}")
            return letter, code
        total = terms[0]
        for term in terms[1:]:
            total = self.join(sign, total, term, parts)
        return total

    def join(
        self, sign: str, a: tuple[str, int], b: tuple[str, int], parts: list[str], target: str = "", lead: str = ""
    ) -> tuple[str, int]:
        """Writes one operation, "I = U + W = 7 + 8 = 15"; returns the letter and its value."""
        target = target or self.draw()
        code = a[1] + b[1] if sign == "+" else a[1] - b[1] if sign == "-" else a[1] * b[1]
        if self.graph.modulus is not None:
            code %= self.graph.modulus
        left, right = self.show(a[1]), self.show(b[1])
        if self.reverse and sign != "+":
            left, right = f"({left})", f"({right})"
        parts.append(f"{lead}{target} = {a[0]} {sign} {b[0]} = {left} {sign} {right} = {self.show(code)}")
        return target, code

    def show(self, code: int) -> str:
        """A value as text."""
        return str(decode(code)) if self.reverse else str(code)

    def tail(self) -> str:
        """The equation and its solution, in reverse; empty in forward mode."""
        if not self.reverse:
            return ""
        known = next(s.constant for s in self.graph.statements if s.name == self.graph.end and s.rule == "given")
        form = decode(self.graph.codes[self.graph.end])
        slope, rest = form.slope, known - form.constant
        moved = decode(slope * X - rest)
        return (
            f"We know {self.letter_of[self.graph.end]} = {known}, so we have {form} = {known} and we solve it through the "
            f"following steps: Simplifying the equation: {form} = {known}. Move all terms to one side: {moved} = 0. "
            f"Isolate the term with x: {slope}*x = {rest}. Divide both sides by {slope}: x = {rest} / {slope}. "
            f"Solution: x = {self.graph.answer}."
        )
