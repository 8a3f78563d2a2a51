"""Which number a problem's text fixes for its question: a linear system.

A quantity whose definition depends on a cycle is ignored. A total is the sum of all quantities of its place that are mentioned
anywhere. What is mentioned but not defined is free. Two statements about one quantity are two equations.
"""

from fractions import Fraction
from typing import Protocol

from grammar.problem.linear import Linear, decode
from grammar.problem.quantity import Quantity, topological
from grammar.problem.system import LinearForm, TooLarge, reduced, solve

_MAX_FREE = 64  # free quantities in its equations and the question; more are not solved for
Verdict = tuple[Fraction | int | None, str | None]


class _Stated(Protocol):
    """What a problem states; see `Graph`."""

    @property
    def question(self) -> str: ...
    @property
    def modulus(self) -> int | None: ...
    @property
    def unknown(self) -> str | None: ...
    @property
    def quantities(self) -> dict[str, Quantity]: ...
    @property
    def restated(self) -> tuple[Quantity, ...]: ...
    @property
    def undefined(self) -> tuple[str, ...]: ...
    @property
    def free(self) -> tuple[str, ...]: ...
    @property
    def codes(self) -> dict[str, int]: ...


def verdict_of(graph: _Stated) -> Verdict:
    """The number that a problem fixes for its question (or None), and why it is no answer (or None)."""
    asked, restated, code = graph.question, graph.restated, graph.codes.get(graph.question)
    if not restated and code is not None and isinstance(decode(code), int):
        return code, None
    if not restated and code is None and not graph.free:
        return None, f"{asked!r} depends on itself or is too large"
    if graph.free == (asked,) and len(restated) == 1 and graph.unknown is not None:
        (other,) = restated
        form = decode(graph.codes.get(other.name, 0))
        if other.rule == "given" and other.constant is not None and isinstance(form, Linear):  # most in reverse: a*x + b = K
            return _conclude(graph, Fraction(other.constant - form.constant, form.slope))
    forms, free = _linear_forms(graph)
    if free > _MAX_FREE:
        return None, f"{free} quantities are mentioned but not defined"
    if asked not in forms:
        return None, f"{asked!r} depends on itself, on a product of unknowns, or is too large"
    further = ((forms.get(s.name), s.linear(forms)) for s in restated)
    equations = [reduced(form - other, graph.modulus) for form, other in further if form is not None and other is not None]
    if any(not isinstance(equation, LinearForm) and equation for equation in equations):
        return None, "two statements contradict each other"
    left = [equation for equation in equations if isinstance(equation, LinearForm)]
    try:
        found = solve(forms[asked], left, graph.modulus)
    except TooLarge as error:
        return None, str(error)
    if isinstance(found, str):
        missing = "a definition is missing" if graph.undefined else "nothing else is known of what depends on it"
        return None, f"{asked!r} stays free: {missing}" if found == "open" else "two statements contradict each other"
    return _conclude(graph, found)


def _linear_forms(graph: _Stated) -> tuple[dict[str, LinearForm | int], int]:
    """Name -> what it is in free quantities, for what question and equations need; and how many those are: none if too many."""
    goals = dict.fromkeys((graph.question, *(name for s in graph.restated for name in (s.name, *s.parents))))
    names = topological(graph.quantities, goals, graph.undefined)
    needed = {parent for name in names for parent in graph.quantities[name].parents}.union(names, goals)
    free = [name for name in graph.free if name in needed]
    forms: dict[str, LinearForm | int] = {name: LinearForm({name: 1}) for name in free}
    for name in names if len(free) <= _MAX_FREE else ():
        form = graph.quantities[name].linear(forms) if name not in forms else None
        if form is not None:
            forms[name] = reduced(form, graph.modulus)
    return forms, len(free)


def _conclude(graph: _Stated, value: Fraction | int) -> Verdict:
    """The verdict on what the question equals."""
    if value.denominator != 1:
        return value, f"{graph.question!r} would be {value}, which is no integer"
    return int(value), None
