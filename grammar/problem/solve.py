"""Linear equations in named unknowns, solved exactly, over the rationals or modulo a number."""

from collections.abc import Iterable
from fractions import Fraction

Form = dict[str, Fraction | int]  # name of an unknown -> its coefficient; "" -> the constant


def add(form: Form, other: Form, times: Fraction | int = 1) -> Form:
    """Adds a multiple of another form to a form, in place; returns it."""
    for name, factor in other.items():
        form[name] = form.get(name, 0) + factor * times
    return form


def unknowns_of(form: Form) -> list[str]:
    """The unknowns whose coefficient is not zero."""
    return [name for name, factor in form.items() if name and factor]


def eliminate(equations: Iterable[Form], modulus: int | None) -> dict[str, Form] | None:
    """Solves forms that are zero: name -> what it equals; None if they contradict each other."""
    solution: dict[str, Form] = {}
    for equation in equations:
        rest = substitute(equation, solution)
        name = next((name for name in rest if name), None)
        if name is None:
            constant = rest.get("", 0)
            if constant % modulus if modulus else constant:
                return None
            continue
        pivot = Fraction(rest.pop(name))
        expressed = {other: -factor / pivot for other, factor in rest.items()}
        solution = {known: substitute(form, {name: expressed}) for known, form in solution.items()}
        solution[name] = expressed
    return solution


def substitute(form: Form, solution: dict[str, Form]) -> Form:
    """The form with solved unknowns replaced; zero coefficients are dropped."""
    result: Form = {}
    for name, factor in form.items():
        add(result, solution.get(name, {name: 1}), factor)
    return {name: factor for name, factor in result.items() if factor}
