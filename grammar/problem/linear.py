"""Linear forms in the unknown x, kept as plain integers while we compute.

Kronecker's substitution: put x = X, a number far above every number of the language. Then a form a*x + b *is* the
integer a*X + b: sums, differences and products by a constant are integer arithmetic, two forms are equal exactly when
their integers are, and `decode` gives a and b back. Numbers are bounded (`MAX_NUMBER`, `MAX_VALUE`), so no constant can
reach X; a product of two forms in x overshoots `TOP` and is seen as what it is: not linear.
"""

from dataclasses import dataclass
from typing import TypeGuard

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


def in_bounds(code: float) -> TypeGuard[int]:
    """Whether a computed number stands for a linear form of admitted size; NaN does not."""
    if -MAX_VALUE <= code <= MAX_VALUE:
        return True
    if not -TOP <= code <= TOP:
        return False
    whole = int(code)
    return abs(whole - (((whole + _HALF) >> BITS) << BITS)) <= MAX_VALUE
