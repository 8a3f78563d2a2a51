"""Text of problems and traces: the inverse of parse, byte for byte."""

from grammar.problem.graph import Graph
from grammar.problem.names import read_name
from grammar.problem.quantity import Quantity
from grammar.reading.shapes import join, join_ending
from grammar.reading.trace import PRELUDE, Trace, TraceSyntaxError


def render_problem(graph: Graph) -> tuple[str, str]:
    """The problem's sentences, each closed by a full stop and a space as published, and its question."""
    return "".join(f"{render_statement(s)}. " for s in graph.statements), read_name(graph.question).question


def render_statement(quantity: Quantity) -> str:
    """One sentence, without its full stop.

    Raises:
        ValueError: for a total or a sum of products: a problem implies those and never says them.
    """
    if not quantity.form.stated:
        raise ValueError(f"render: {quantity.name!r} has rule {quantity.rule!r}, which a problem implies; leave it out.")
    refs = [read_name(parent).phrase for parent in quantity.parents]
    scale = f"{quantity.constant} {quantity.scale} " if quantity.scale is not None else ""
    return quantity.form.sentence(read_name(quantity.name), scale + quantity.form.phrase(refs, quantity.constant))


def render_trace(trace: Trace) -> str:
    """A trace as text: a gold solution ("... Answer: 12."), or a response (the text after `<solution>`).

    Raises:
        TraceSyntaxError: if some of the text it was read from was not accepted.
    """
    if trace.errors:
        error = trace.errors[0]
        raise TraceSyntaxError(f"render_trace: character {error.start}: {error.message}; only a whole trace has a text.")
    parts = [PRELUDE] if trace.prelude else []
    parts += [f"Define {s.name} as {s.letter}; {join(s.words)}." for s in trace.steps]
    if trace.ending is not None:
        parts.append(join_ending(trace.ending.words))
    text = " ".join(parts)
    return f"{text} Answer: {trace.answer}." if trace.gold else f" {text} </solution> <answer> {trace.answer} </answer>"
