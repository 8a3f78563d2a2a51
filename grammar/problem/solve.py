"""Does the text of a problem determine its answer? The text as a linear system, solved exactly.

Rules: a quantity whose definition depends on a cycle is ignored. A total is the sum of all quantities of its place that
are mentioned anywhere. What is mentioned but not defined is free. Two statements about one quantity are two equations.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from grammar.problem.linear import MAX_VALUE, Linear, decode

if TYPE_CHECKING:
    from grammar.problem.graph import Graph
from grammar.problem.quantity import Quantity

_MAX_FREE = 64  # free quantities; more are not solved for

Form = dict[str, Fraction | int]  # name of a free quantity -> coefficient; "" -> the constant


def solve(graph: "Graph") -> tuple[Fraction | int | None, str | None]:
    """The number that the text fixes for the question, and why it is not an answer; None for what there is not."""
    if graph.question not in graph.quantities and graph.question not in graph.undefined:
        return None, f"nothing is said about {graph.question!r}"
    if not graph.restated and not graph.free:
        value = graph.codes.get(graph.question)
        return (value, None) if value is not None else (None, f"{graph.question!r} depends on itself or is too large")
    if graph.free == (graph.question,) and len(graph.restated) == 1 and graph.unknown is not None and graph.modulus is None:
        known = graph.restated[0]
        form = decode(graph.codes.get(known.name, 0))
        if known.rule == "given" and isinstance(form, Linear):  # most problems in reverse: one equation a*x + b = K
            return _conclude(graph, {"": Fraction(known.constant - form.constant, form.slope)})
    if len(graph.free) > _MAX_FREE:
        return None, f"{len(graph.free)} quantities are mentioned but not defined"
    forms = _forms(graph)
    if graph.question not in forms:
        return None, f"{graph.question!r} depends on itself, on a product of unknowns, or is too large"
    solution = _eliminate(_equations(graph, forms), graph.modulus)
    if solution is None:
        return None, "two statements contradict each other"
    return _conclude(graph, _reduce(forms[graph.question], solution))


def _conclude(graph: "Graph", form: Form) -> tuple[Fraction | None, str | None]:
    open_names = [name for name in form if name]
    if open_names:
        reached = "a definition is missing" if graph.undefined else "nothing else is known of what depends on it"
        return None, f"{open_names[0]!r} stays free: {reached}"
    value = Fraction(form.get("", 0))
    if value.denominator != 1:
        return value, f"{graph.question!r} would be {value}, which is no integer"
    return (value if graph.modulus is None else value % graph.modulus), None


def _forms(graph: "Graph") -> dict[str, Form]:
    """Name -> its linear form in the free quantities, for all that have one."""
    forms: dict[str, Form] = {name: {name: 1} for name in graph.free}
    for name in graph.sorted_names:
        form = _form(graph.quantities[name], forms) if name not in forms else forms[name]
        if form is not None:
            forms[name] = form
    return forms


def _form(quantity: "Quantity", forms: dict[str, Form]) -> Form | None:
    """What a definition says, as a linear form; None where it has none within bounds."""
    if any(parent not in forms for parent in quantity.parents):
        return None
    parents = [forms[parent] for parent in quantity.parents]
    form: Form = {}
    match quantity.rule:
        case "given":
            form = {"": quantity.constant}
        case "difference":
            _add(form, parents[0], 1)
            _add(form, parents[1], -1)
        case "products":
            for a, b in zip(parents[::2], parents[1::2], strict=True):
                constant, other = (a, b) if not any(a[name] for name in a if name) else (b, a)
                if any(constant[name] for name in constant if name):
                    return None
                _add(form, other, constant.get("", 0))
        case _:
            for parent in parents:
                _add(form, parent, 1)
    if quantity.scale == "plus":
        _add(form, {"": quantity.constant}, 1)
    elif quantity.scale == "times":
        form = {name: factor * quantity.constant for name, factor in form.items()}
    return form if all(abs(factor) <= MAX_VALUE for factor in form.values()) else None


def _add(form: Form, other: Form, times: Fraction | int) -> None:
    for name, factor in other.items():
        form[name] = form.get(name, 0) + factor * times


def _equations(graph: "Graph", forms: dict[str, Form]) -> Iterator[Form]:
    """Every further statement about a quantity, as a form that is zero."""
    for statement in graph.restated:
        form = _form(statement, forms)
        if form is not None and statement.name in forms:
            equation = dict(forms[statement.name])
            _add(equation, form, -1)
            yield equation


def _eliminate(equations: Iterator[Form], modulus: int | None) -> dict[str, Form] | None:
    """Name -> what it equals, by elimination; None if the equations contradict each other."""
    solution: dict[str, Form] = {}
    for equation in equations:
        rest = _reduce(equation, solution)
        name = next((name for name in rest if name), None)
        if name is None:
            constant = rest.get("", 0)
            if constant % modulus if modulus else constant:
                return None
            continue
        pivot = Fraction(rest.pop(name))
        expressed = {other: -factor / pivot for other, factor in rest.items()}
        solution = {known: _reduce(form, {name: expressed}) for known, form in solution.items()}
        solution[name] = expressed
    return solution


def _reduce(form: Form, solution: dict[str, Form]) -> Form:
    """The form with what is known put in; zero coefficients dropped."""
    result: Form = {}
    for name, factor in form.items():
        _add(result, solution.get(name, {name: 1}), factor)
    return {name: factor for name, factor in result.items() if factor}
