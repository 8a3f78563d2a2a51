"""One quantity of a problem: its name and how its number comes about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from grammar.problem.linear import MAX_NUMBER, X
from grammar.problem.names import read_name

Rule = Literal["given", "copy", "sum", "difference", "total", "products", "unknown"]
Scale = Literal["plus", "times"]

_PARENTS: dict[str, tuple[int, float]] = {  # rule -> fewest and most parents
    "given": (0, 0),
    "unknown": (0, 0),
    "copy": (1, 1),
    "sum": (2, float("inf")),
    "difference": (2, 2),
    "total": (1, float("inf")),
    "products": (2, float("inf")),
}
_SCALABLE = ("copy", "sum", "difference")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One node, or one sentence about it.

    name:     what it is called ("adult owl in South Zoo", "total number of movies in Verdi Movie Festival", "roses").
    rule:     how its value comes about. "products" sums products of parents taken two by two (count, average, ...).
    parents:  names in reading order; empty exactly for "given" and "unknown".
    constant: the number of a "given", or c of "c plus ..." and "c times ..."; else None.
    scale:    "plus" or "times" where such a c stands before the rest; else None.

    Raises:
        ValueError: for a combination that no sentence can say.
    """

    name: str
    rule: Rule
    parents: tuple[str, ...] = ()
    constant: int | None = None
    scale: Scale | None = None

    def __post_init__(self) -> None:
        """Refuses what no sentence can say."""
        rule, parents, constant, scale = self.rule, self.parents, self.constant, self.scale
        if rule not in _PARENTS:
            raise ValueError(f"Quantity {self.name!r}: unknown rule {rule!r}; choose from {', '.join(_PARENTS)}.")
        read_name(self.name)
        for name in parents:
            read_name(name)
        fewest, most = _PARENTS[rule]
        if not fewest <= len(parents) <= most or (rule == "products" and len(parents) % 2):
            raise ValueError(f"Quantity {self.name!r}: rule {rule!r} does not take {len(parents)} parents.")
        if scale is not None and (scale not in ("plus", "times") or rule not in _SCALABLE):
            raise ValueError(f"Quantity {self.name!r}: scale {scale!r} does not fit rule {rule!r}.")
        if (constant is not None) != (rule == "given" or scale is not None):
            raise ValueError(
                f"Quantity {self.name!r}: constant={constant} does not fit rule {rule!r} with scale={scale}; "
                "a 'given' and a scaled quantity have one, others have none."
            )
        if constant is not None and not 0 <= constant <= MAX_NUMBER:
            raise ValueError(f"Quantity {self.name!r}: constant {constant} is not within 0..{MAX_NUMBER}.")

    @property
    def op(self) -> int:
        """Operand count: a leaf 1, the unknown 1, each reference 1, a constant 1."""
        return len(self.parents) + (self.constant is not None) or 1

    def compute(self, codes: Mapping[str, int], modulus: int | None = None) -> int:
        """Its value as an integer code (`linear`), from the codes of its parents.

        Raises:
            KeyError: if a parent has no value.
        """
        match self.rule:
            case "given":
                value = self.constant
            case "unknown":
                return X
            case "difference":
                value = codes[self.parents[0]] - codes[self.parents[1]]
            case "products":
                value = sum(codes[a] * codes[b] for a, b in zip(self.parents[::2], self.parents[1::2], strict=True))
            case _:
                value = 0
                for parent in self.parents:
                    value += codes[parent]
        if self.scale == "plus":
            value += self.constant
        elif self.scale == "times":
            value *= self.constant
        return value if modulus is None else value % modulus
