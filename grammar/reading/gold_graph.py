"""The graph that a gold solution states: the authority if a problem's text is absent or determines no answer."""

from typing import NamedTuple

from grammar.problem.forms import FORMS, SCALES, Scale
from grammar.problem.graph import Graph
from grammar.problem.names import read_name
from grammar.problem.quantity import Quantity, Rule
from grammar.reading.parse import require
from grammar.reading.shapes import Chain, is_variable
from grammar.reading.trace import Step, Trace, TraceSyntaxError


class _Made(NamedTuple):
    """What a letter is made of: a rule over names, with c of "c plus" or "c times" if any."""

    rule: Rule
    parents: tuple[str, ...] = ()
    constant: int | None = None
    scale: Scale | None = None


def graph_of(trace: Trace, *, modulus: int | None = None) -> Graph:
    """Reads the definitions of a gold solution as a problem: its steps as statements, its last step as the question.

    Raises:
        TraceSyntaxError: if the trace is not well formed, or defines something in a way that no problem can state.
    """
    require(trace)
    if not trace.steps:
        raise TraceSyntaxError("gold solution: expected at least one step, found none.")
    letters: dict[str, _Made] = {}
    statements = []
    for step in trace.steps:
        made = _step(step, letters)
        rule = "total" if read_name(step.name).kind == "total" and made.rule in ("copy", "sum") else made.rule
        statements.append(Quantity(step.name, rule, made.parents, made.constant, made.scale))
        letters[step.letter] = _Made("copy", (step.name,))
    question = statements[-1].name
    if trace.ending is not None:
        known = int(trace.ending.shape.values(trace.ending.words)[1])
        question = next((s.name for s in statements if s.rule == "unknown"), question)
        statements.append(Quantity(statements[-1].name, "given", (), known))
    return Graph(tuple(statements), question, modulus)


def _step(step: Step, letters: dict[str, _Made]) -> _Made:
    made = _Made("unknown")
    for chain in step.shape.chains if step.shape is not None else ():
        made = letters[step.words[chain.target]] = _chain(step, chain, letters)
    return made


def _chain(step: Step, chain: Chain, letters: dict[str, _Made]) -> _Made:
    first = chain.sides[0]
    words = chain.values(step.words)[: first.last]
    unheard = [word for word in words if is_variable(word) and word not in letters]
    if unheard:
        raise TraceSyntaxError(f"gold solution, {step.name!r}: {unheard[0]!r} is used before it is declared.")
    operands = [letters[word] if is_variable(word) else _Made("given", (), int(word)) for word in words]
    sign = first.text.replace("%s", "")
    made = operands[0] if len(operands) == 1 else _join(sign, *operands) if len(operands) == 2 else None
    if made is None:
        raise TraceSyntaxError(f"gold solution, {step.name!r}: no problem states {first.text % words!r}.")
    return made


def _join(sign: str, a: _Made, b: _Made) -> _Made | None:
    """What two operands make; None if no problem can say so."""
    scale = next((word for word, scale_sign in SCALES.items() if scale_sign == sign), None)
    if a.rule == "given" and b.scale is None and FORMS[b.rule].scalable and scale is not None:
        return _Made(b.rule, b.parents, a.constant, scale)
    if a.scale is not None or b.scale is not None:
        return None
    found = ((form.name, form.joined(sign, a[:2], b[:2])) for form in FORMS.values())
    return next((_Made(rule, parents) for rule, parents in found if parents is not None), None)
