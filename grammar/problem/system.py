"""Linear forms in many unknowns, and systems of linear equations, exactly: over the integers, or modulo one."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import gcd
from typing import overload

from grammar.problem.linear import NAN

_MOST_BITS = 1 << 25  # of the rows computed for a system; more work is not done
_ASKED = ";"  # the form asked for, as an unknown of its own; no name
Row = Mapping[str, int]


class TooLarge(ValueError):
    """A system that takes too long to solve."""


class LinearForm(dict[str, int]):
    """Name of an unknown -> its coefficient, not zero; "" -> the constant.

    Sums, differences and products are forms, or plain numbers if no unknown is left; a product of two forms is NaN.
    """

    def __add__(self, other: "LinearForm | int") -> "LinearForm | int":
        found = dict(self)
        for name, factor in other.items() if isinstance(other, LinearForm) else (("", other),):
            found[name] = found.get(name, 0) + factor
        return simplified(found)

    @overload
    def __mul__(self, other: int) -> "LinearForm | int": ...
    @overload
    def __mul__(self, other: "LinearForm") -> float: ...
    def __mul__(self, other: "LinearForm | int") -> "LinearForm | float":
        if isinstance(other, LinearForm):
            return NAN
        return simplified({name: factor * other for name, factor in self.items()})

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: "LinearForm | int") -> "LinearForm | int":
        return self + other * -1

    def __rsub__(self, other: int) -> "LinearForm | int":
        return self * -1 + other


def simplified(terms: dict[str, int]) -> LinearForm | int:
    """A form without zero coefficients; a number if no unknown is left."""
    form = LinearForm((name, factor) for name, factor in terms.items() if factor)
    return form if form.keys() - {""} else form.get("", 0)


def reduced(form: LinearForm | int, modulus: int | None) -> LinearForm | int:
    """A form modulo a number, if there is one."""
    if modulus is None:
        return form
    if not isinstance(form, LinearForm):
        return form % modulus
    return simplified({name: factor % modulus for name, factor in form.items()})


def solve(form: LinearForm | int, equations: Sequence[LinearForm], modulus: int | None) -> Fraction | int | str:
    """What a form equals where others are zero; or "open", or "contradiction".

    Unknowns are eliminated one by one, the form last. The rows that are left say all that follows without those before.

    Raises:
        TooLarge: if that takes too long.
    """
    system = _System(modulus)
    rows: list[Row] = [{_ASKED: -1} | (form if isinstance(form, LinearForm) else {"": form}), *equations]
    *others, last = *dict.fromkeys(name for row in rows for name in row if name not in ("", _ASKED)), _ASKED
    for name in others:
        _, rows = system.without(name, rows)
    pivot, rows = system.without(last, rows)
    if any(row.get("", 0) for row in rows):
        return "contradiction"
    if pivot is None or (modulus is not None and gcd(pivot[_ASKED], modulus) != 1):
        return "open"
    if modulus is not None:
        return -pivot.get("", 0) * pow(pivot[_ASKED], -1, modulus) % modulus
    return Fraction(-pivot.get("", 0), pivot[_ASKED])


class _System:
    def __init__(self, modulus: int | None) -> None:
        self.modulus = modulus
        self.bits = 0

    def without(self, name: str, rows: Sequence[Row]) -> tuple[Row | None, list[Row]]:
        """A row with the unknown, if any, and rows without it, which together say what the given ones say.

        Modulo a number factors may have no inverse: Euclid's algorithm finds the row, and its multiple without the unknown stays.
        """
        have = sorted((row for row in rows if row.get(name)), key=len)
        rest = [row for row in rows if not row.get(name)]
        if not have:
            return None, rest
        pivot = have[0]
        for row in have[1:]:
            if self.modulus is None:
                row = self.sum(pivot[name], row, -row[name], pivot)
            while row.get(name):
                pivot, row = row, self.sum(1, pivot, -(pivot[name] // row[name]), row)
            rest.append(row)
        if self.modulus is not None:
            rest.append(self.sum(0, {}, self.modulus // gcd(pivot[name], self.modulus), pivot))
        return pivot, [row for row in rest if row]

    def sum(self, a: int, row: Row, b: int, other: Row) -> Row:
        """The sum of multiples of two rows: reduced modulo the number, or divided by what its factors share."""
        found = {name: a * row.get(name, 0) + b * other.get(name, 0) for name in dict.fromkeys((*row, *other))}
        if self.modulus is not None:
            found = {name: factor % self.modulus for name, factor in found.items()}
        self.bits += sum(map(int.bit_length, found.values())) + 64 * len(found)
        if self.bits > _MOST_BITS:
            raise TooLarge("its equations are too many or too large to solve")
        shared = gcd(*found.values()) if self.modulus is None else 1
        return {name: factor // shared for name, factor in found.items() if factor}
