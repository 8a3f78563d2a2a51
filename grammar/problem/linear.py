"""Linear forms in the unknown x, kept as plain integers while we compute, and systems of linear equations.

Kronecker's substitution: put x = X, a number far above every number of the language. Then a form a*x + b *is* the
integer a*X + b: sums, differences and products by a constant are integer arithmetic, two forms are equal exactly when
their integers are, and `decode` gives a and b back. Numbers are bounded (`MAX_NUMBER`, `MAX_VALUE`), so no constant can
reach X; a product of two forms in x overshoots `TOP` and is seen as what it is: not linear.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

MAX_DIGITS = 9  # digits of a number in a text
MAX_NUMBER = 10**MAX_DIGITS - 1
MAX_VALUE = 10**18  # magnitude of a computed constant or coefficient
BITS = 192
X = 1 << BITS  # the unknown
TOP = MAX_VALUE * X + MAX_VALUE  # largest code of a form within bounds
NAN = float("nan")  # stands for what is not known or not linear: equal to nothing, within no bounds
_HALF = X >> 1


@dataclass(frozen=True, slots=True)
class Linear:
    """slope * x + constant, with slope != 0 (else it is an int); printed as the published traces do."""

    slope: int
    constant: int

    def __str__(self) -> str:
        size = abs(self.slope)
        term = "x" if size == 1 else f"{size}*x"
        if self.slope < 0:
            if self.constant > 0:
                return f"{self.constant} - {term}"
            term = f"-{term}"
        if self.constant == 0:
            return term
        return f"{term} + {self.constant}" if self.constant > 0 else f"{term} - {-self.constant}"


def encode(value: "int | Linear") -> int:
    """The integer that stands for a value while we compute."""
    return value if isinstance(value, int) else value.slope * X + value.constant


def decode(code: int) -> "int | Linear":
    """The value that a computed integer stands for."""
    if -_HALF < code < _HALF:
        return code
    slope = (code + _HALF) >> BITS
    return Linear(slope, code - slope * X)


def in_bounds(code: float) -> bool:
    """Whether a computed number stands for a linear form of admitted size; NaN does not."""
    if -MAX_VALUE <= code <= MAX_VALUE:
        return True
    if not -TOP <= code <= TOP:
        return False
    return abs(code - (((code + _HALF) >> BITS) << BITS)) <= MAX_VALUE


Number = Fraction | int
Row = Mapping[str, int]  # as a linear form, modulo a number


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


def reduced(form: LinearForm | Number, modulus: int | None) -> LinearForm | Number:
    """A form modulo a number, if there is one."""
    if modulus is None:
        return form
    if not isinstance(form, LinearForm):
        return form % modulus
    return simplified({name: factor % modulus for name, factor in form.items()})


def eliminate(equations: Iterable[LinearForm]) -> dict[str, LinearForm | Number] | None:
    """Solves forms that are zero: name -> what it equals; None if they contradict each other."""
    solution: dict[str, LinearForm | Number] = {}
    for equation in equations:
        rest = substitute(equation, solution)
        if not isinstance(rest, LinearForm):
            if rest:
                return None
            continue
        name = next(filter(None, rest))
        expressed = (rest - LinearForm({name: rest[name]})) * (-1 / Fraction(rest[name]))
        solution = {known: substitute(form, {name: expressed}) for known, form in solution.items()} | {name: expressed}
    return solution


def solve_modulo(form: LinearForm | Number, equations: Sequence[LinearForm], modulus: int) -> LinearForm | Number | None:
    """What a form equals where others are zero modulo a number: a number, or itself if that is open; None if they contradict.

    Unknowns are eliminated one by one, by Euclid's algorithm on their factors. Of the row that keeps an unknown, the multiple
    without it stays: so the rows that are left are all that follows without it.
    """
    asked = ";"  # the form, as an unknown of its own; no name
    rows = [reduced(LinearForm({asked: -1}) + form, modulus), *equations]
    *others, last = *dict.fromkeys(name for row in rows for name in row if name not in ("", asked)), asked
    for name in others:
        _, rows = _without(name, rows, modulus)
    pivot, rows = _without(last, rows, modulus)
    if any(row.get("", 0) for row in rows):
        return None
    if pivot is None or gcd(pivot[asked], modulus) != 1:
        return form if isinstance(form, LinearForm) else LinearForm({asked: 1})
    return -pivot.get("", 0) * pow(pivot[asked], -1, modulus) % modulus


def _without(name: str, rows: Sequence[Row], modulus: int) -> tuple[Row | None, list[Row]]:
    """A row with the unknown, if any, and rows without it, which together say what the given ones say."""
    pivot, rest = None, []
    for row in rows:
        if pivot is None and row.get(name):
            pivot, row = row, {}
        while row.get(name):
            pivot, row = row, _less(pivot, pivot[name] // row[name], row, modulus)
        rest.append(row)
    if pivot is not None:
        rest.append(_less({}, -(modulus // gcd(pivot[name], modulus)), pivot, modulus))
    return pivot, [row for row in rest if row]


def _less(row: Row, times: int, other: Row, modulus: int) -> Row:
    """A row less a multiple of another."""
    found = {name: (row.get(name, 0) - times * other.get(name, 0)) % modulus for name in {*row, *other}}
    return {name: factor for name, factor in found.items() if factor}


def substitute(form: LinearForm | Number, solution: dict[str, LinearForm | Number]) -> LinearForm | Number:
    """The form with solved unknowns replaced."""
    if not isinstance(form, LinearForm):
        return form
    return sum((solution.get(name, LinearForm({name: 1})) * factor for name, factor in form.items() if name), form.get("", 0))
