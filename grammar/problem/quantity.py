"""One quantity of a problem: its name and how its number comes about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from grammar.problem.forms import FORMS, SCALES, StatementForm
from grammar.problem.linear import MAX_NUMBER, MAX_VALUE
from grammar.problem.names import read_name
from grammar.problem.solve import Form

Rule = str  # the name of a statement form: "given", "copy", "sum", "difference", "total", "products", "unknown"
Scale = Literal["plus", "times"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One node, or one sentence about it.

    name:     what it is called ("adult owl in South Zoo", "total number of movies in Verdi Movie Festival", "roses").
    rule:     how its value comes about: the name of a form (`forms`).
    parents:  names in reading order; empty exactly for "given" and "unknown".
    constant: the number of a "given", or c of "c plus ..." and "c times ..."; else None.
    scale:    "plus" or "times" if such a c stands before the rest; else None.

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
        form = FORMS.get(rule)
        if form is None:
            raise ValueError(f"Quantity {self.name!r}: unknown rule {rule!r}; choose from {', '.join(FORMS)}.")
        read_name(self.name)
        for name in parents:
            read_name(name)
        if not form.takes(len(parents)):
            raise ValueError(f"Quantity {self.name!r}: rule {rule!r} does not take {len(parents)} parents.")
        if scale is not None and (scale not in SCALES or not form.scalable):
            raise ValueError(f"Quantity {self.name!r}: scale {scale!r} does not fit rule {rule!r}.")
        if (constant is not None) != (rule == "given" or scale is not None):
            raise ValueError(
                f"Quantity {self.name!r}: constant={constant} does not fit rule {rule!r} with scale={scale}; "
                "a 'given' and a scaled quantity have one, others have none."
            )
        if constant is not None and not 0 <= constant <= MAX_NUMBER:
            raise ValueError(f"Quantity {self.name!r}: constant {constant} is not within 0..{MAX_NUMBER}.")

    @property
    def form(self) -> StatementForm:
        """The form of its statement."""
        return FORMS[self.rule]

    @property
    def op(self) -> int:
        """Operand count: a leaf 1, the unknown 1, each reference 1, a constant 1."""
        return len(self.parents) + (self.constant is not None) or 1

    def compute(self, codes: Mapping[str, int], modulus: int | None = None) -> float:
        """Its value as an integer code (`linear`), from the codes of its parents; NaN if it has none.

        Raises:
            KeyError: if a parent has no value.
        """
        value = FORMS[self.rule].compute([codes[parent] for parent in self.parents], self.constant)
        if self.scale is not None:
            value = SCALES[self.scale].compute(self.constant, value)
        return value if modulus is None else value % modulus

    def formula(self, points: Mapping[str, int], codes: Mapping[str, int]) -> float:
        """What a gold step comes to if each parent stands for its point; `codes` are the parents' values."""
        form = FORMS[self.rule]
        if not form.by_value:
            return self.compute(points)
        value = form.formula([points[parent] for parent in self.parents], [codes[parent] for parent in self.parents])
        return value if self.scale is None else SCALES[self.scale].compute(self.constant, value)

    def linear(self, forms: Mapping[str, Form]) -> Form | None:
        """Its linear form in free quantities, from those of its parents; None if it has none within bounds."""
        if any(parent not in forms for parent in self.parents):
            return None
        form = self.form.linear([forms[parent] for parent in self.parents], self.constant)
        if form is not None and self.scale is not None:
            form = SCALES[self.scale].linear(form, self.constant)
        return form if form is not None and all(abs(factor) <= MAX_VALUE for factor in form.values()) else None
