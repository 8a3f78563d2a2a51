"""Linear equations in named unknowns, solved exactly, over the rationals or modulo a number."""

from collections.abc import Iterable
from fractions import Fraction

from grammar.problem.linear import NAN

Number = Fraction | int


class LinearForm(dict[str, Number]):
    """Name of an unknown -> its coefficient, not zero; "" -> the constant.

    Sums, differences and products are forms, or plain numbers if no unknown is left; a product of two forms is NaN.
    """

    def __add__(self, other: "LinearForm | Number") -> "LinearForm | Number":
        found = dict(self)
        for name, factor in other.items() if isinstance(other, LinearForm) else (("", other),):
            found[name] = found.get(name, 0) + factor
        return simplified(found)

    def __mul__(self, other: "LinearForm | Number") -> "LinearForm | Number":
        if isinstance(other, LinearForm):
            return NAN
        return simplified({name: factor * other for name, factor in self.items()})

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: "LinearForm | Number") -> "LinearForm | Number":
        return self + other * -1

    def __rsub__(self, other: Number) -> "LinearForm | Number":
        return self * -1 + other


def simplified(terms: dict[str, Number]) -> LinearForm | Number:
    """A form without zero coefficients; a number if no unknown is left."""
    form = LinearForm((name, factor) for name, factor in terms.items() if factor)
    return form if form.keys() - {""} else form.get("", 0)


def eliminate(equations: Iterable[LinearForm | Number], modulus: int | None) -> dict[str, LinearForm | Number] | None:
    """Solves forms that are zero: name -> what it equals; None if they contradict each other."""
    solution: dict[str, LinearForm | Number] = {}
    for equation in equations:
        rest = substitute(equation, solution)
        if not isinstance(rest, LinearForm):
            if rest % modulus if modulus else rest:
                return None
            continue
        name = next(filter(None, rest))
        expressed = (rest - LinearForm({name: rest[name]})) * (-1 / Fraction(rest[name]))
        solution = {known: substitute(form, {name: expressed}) for known, form in solution.items()} | {name: expressed}
    return solution


def substitute(form: LinearForm | Number, solution: dict[str, LinearForm | Number]) -> LinearForm | Number:
    """The form with solved unknowns replaced."""
    if not isinstance(form, LinearForm):
        return form
    return sum((solution.get(name, LinearForm({name: 1})) * factor for name, factor in form.items() if name), form.get("", 0))
