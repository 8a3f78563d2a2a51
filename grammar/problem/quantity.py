"""One quantity of a problem: its name and how its number comes about."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grammar.problem.forms import FORMS, OPERATIONS, SCALES, Scale, StatementForm
from grammar.problem.linear import MAX_NUMBER, MAX_VALUE
from grammar.problem.names import read_name
from grammar.problem.system import LinearForm

Rule = str  # the name of a statement form: "given", "copy", "sum", "difference", "total", "products", "unknown"


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
    def skill(self) -> str | None:
        """The operation that computes it, the outer one of two; None for the unknown, which is only named."""
        return f"constant {self.scale}" if self.scale is not None else self.form.skill(len(self.parents))

    @property
    def op(self) -> int:
        """Operand count: a leaf 1, the unknown 1, each reference 1, a constant 1."""
        return len(self.parents) + (self.constant is not None) or 1

    def compute(self, values: Mapping[str, Any], modulus: int | None = None) -> Any:
        """Its value from those of its parents: integer codes (`linear`) or linear forms (`solve`); NaN if it is not linear.

        Raises:
            KeyError: if a parent has no value.
        """
        value = FORMS[self.rule].compute([values[parent] for parent in self.parents], self.constant)
        return self._scaled(value) if modulus is None else self._scaled(value) % modulus

    def _scaled(self, value: Any) -> Any:
        return value if self.scale is None else OPERATIONS[SCALES[self.scale]](self.constant, value)

    def formula(self, points: Mapping[str, int], codes: Mapping[str, int]) -> int:
        """What a gold step comes to if each parent, whose value is in `codes`, stands for its point.

        A parent without a value cannot stand in a gold step; any number that is no other quantity's will do then.
        """
        found: int
        if not codes.keys() >= set(self.parents):
            found = self.compute(points)
        else:
            drawn, known = ([of[parent] for parent in self.parents] for of in (points, codes))
            found = self._scaled(self.form.formula(drawn, known, self.constant))
        return found

    def linear(self, forms: Mapping[str, LinearForm | int]) -> LinearForm | int | None:
        """What it is in free quantities, from what its parents are; None if that is not linear, or not within bounds."""
        if any(parent not in forms for parent in self.parents):
            return None
        form = self.compute(forms)
        factors = form.values() if isinstance(form, LinearForm) else (form,)
        return form if all(abs(factor) <= MAX_VALUE for factor in factors) else None


def topological(quantities: Mapping[str, Quantity], goals: Iterable[str], leaves: Iterable[str] = ()) -> list[str]:
    """Goals and their ancestors, parents first; what depends on a cycle, or on an undefined name not in `leaves`, is left out."""
    done: dict[str, bool | None] = dict.fromkeys(leaves, True)  # name -> usable; None while its parents are being visited
    order: list[str] = []
    for goal in goals:
        stack = [goal] if goal not in done and goal in quantities else []
        while stack:
            name = stack[-1]
            parents = quantities[name].parents
            if name not in done:
                unvisited = [parent for parent in parents if parent not in done and parent in quantities]
                if unvisited:
                    done[name] = None
                    stack += unvisited[::-1]
                    continue
            elif done[name] is not None:
                stack.pop()
                continue
            stack.pop()
            done[name] = all([done.get(parent) for parent in parents])
            if done[name]:
                order.append(name)
    return order
