"""Numbers for a structure: leaves, constants and operators, filled in from the leaves up, so that every value stays in bounds.

A definition is drawn at random as long as its value is small; otherwise the smallest of its variants is taken, and operands that
are also used elsewhere may be replaced by small ones. In reverse mode a value is a linear form in the unknown, kept as its number
at the unknown's true value and its slope.
"""

from collections.abc import Iterable, Iterator
from math import isqrt
from random import Random
from typing import NamedTuple

from datamodules.problems.graph_spec import GraphSpec, OutOfRoom
from datamodules.problems.structure import Draft
from grammar import Quantity
from grammar.problem.forms import FORMS
from grammar.problem.linear import X, decode, in_bounds
from grammar.problem.quantity import Rule, Scale

SMALL_TRIED = 8  # small quantities considered as replacements
SOFT = 8  # values beyond max_value / SOFT are avoided if there is a choice


class Value(NamedTuple):
    """A number, and in reverse mode how fast it grows with the unknown."""

    number: int
    slope: int = 0


class Variant(NamedTuple):
    """One way to fill in a definition."""

    rule: Rule
    scale: Scale | None
    constant: int | None
    parents: tuple[str, ...]
    value: Value


class Arithmetic:
    """Fills in definitions one by one, parents first.

    values:   name -> value, of everything filled in.
    uses:     name -> number of references to it; kept up to date.
    unknown:  name and true value of the unknown; None in a forward problem.
    """

    def __init__(
        self, spec: GraphSpec, rng: Random, *, modulus: int | None, uses: dict[str, int], unknown: tuple[str, int] | None
    ) -> None:
        self.spec, self.rng, self.modulus = spec, rng, modulus
        self.uses, self.unknown = uses, unknown
        self.values: dict[str, Value] = {}
        self._caps: dict[str, int] = {}
        self._small: list[str] = []  # quantities to fall back on

    def cap(self, drafts: Iterable[Draft]) -> None:
        """Keep factors of the products among `drafts` small."""
        for draft in drafts:
            if draft.rule == "products":
                for parent in draft.parents:
                    self._caps[parent] = isqrt(self.spec.max_value // (len(draft.parents) // 2))

    def fill(self, draft: Draft) -> Quantity:
        """Turn a draft whose parents are filled in into a quantity.

        Raises:
            OutOfRoom: no variant of it stays in bounds.
        """
        if draft.rule == "given":
            return self._leaf(draft.name)
        if draft.rule in ("total", "products"):
            quantity = Quantity(draft.name, draft.rule, draft.parents)
            self._keep(quantity, self._valued(draft.rule, draft.parents))
            return quantity
        chosen = self._choose(draft)
        quantity = Quantity(draft.name, chosen.rule, chosen.parents, chosen.constant, chosen.scale)
        self._keep(quantity, chosen.value)
        return quantity

    def _leaf(self, name: str) -> Quantity:
        if self.unknown is not None and name == self.unknown[0]:
            self.values[name] = Value(self.unknown[1], 1)
            self._small.append(name)
            return Quantity(name, "unknown")
        low, high = (0, self.modulus - 1) if self.modulus else (1, self.spec.number_range - 1)
        number = low + int(self.rng.random() * (high - low + 1))
        self.values[name] = Value(number)
        self._small.append(name)
        return Quantity(name, "given", (), number)

    def _keep(self, quantity: Quantity, value: Value) -> None:
        if not self._within(value):
            raise OutOfRoom
        self.values[quantity.name] = value
        if self._size(value) <= 2 * self.spec.number_range and self.modulus is None:
            self._small.append(quantity.name)

    def _choose(self, draft: Draft) -> Variant:
        """Fill in a definition: the first variant that stays small, else the smallest."""
        soft = min(self.spec.max_value // SOFT, self._caps.get(draft.name, self.spec.max_value))
        found: list[Variant] = []
        for variant in self._valid(draft, draft.parents):
            if self.modulus is not None or self._size(variant.value) <= soft:
                return variant
            found.append(variant)
        found += self._valid(draft, self._smaller_parents(draft))
        if not found:
            raise OutOfRoom
        best = min(found, key=lambda variant: self._size(variant.value))
        for parent in draft.parents:
            self.uses[parent] -= 1
        for parent in best.parents:
            self.uses[parent] += 1
        return best

    def _smaller_parents(self, draft: Draft) -> tuple[str, ...]:
        """The parents, with those that are also used elsewhere replaced by small quantities; one that holds the unknown stays."""
        parents, values = list(draft.parents), self.values
        drawn = {self._small[int(self.rng.random() * len(self._small))] for _ in range(SMALL_TRIED if self._small else 0)}
        small = [name for name in sorted(drawn) if name not in parents and self.uses[name] < self.spec.fan_out]
        holding = sum(values[parent].slope != 0 for parent in parents)
        for i, parent in enumerate(parents):
            if self.uses[parent] == 1 or self._size(values[parent]) <= self.spec.number_range:
                continue
            spared = holding > 1 or not values[parent].slope
            fitting = [name for name in small if spared or values[name].slope]
            if fitting:
                small.remove(fitting[-1])
                parents[i] = fitting[-1]
                holding += bool(values[fitting[-1]].slope) - bool(values[parent].slope)
        return tuple(parents)

    def _valid(self, draft: Draft, parents: tuple[str, ...]) -> Iterator[Variant]:
        """Yield the variants within bounds that keep the unknown, in random order."""
        depends = any([self.values[parent].slope for parent in parents])
        for rule, scale, constant, chosen in self._variants(draft, parents):
            value = self._scaled(rule, scale, constant, chosen)
            if value is not None and (value.slope or not depends):
                yield Variant(rule, scale, constant, chosen, value)

    def _variants(self, draft: Draft, parents: tuple[str, ...]) -> Iterator[tuple]:
        """Yield the ways to fill in a definition, in random order: sum or difference, plus or times."""
        rng = self.rng
        rules: tuple[str, ...] = (draft.rule,)
        if draft.rule == "sum" and len(parents) == 2:
            rules = ("difference", "sum") if rng.random() < self.spec.differences else ("sum", "difference")
        if draft.rule == "sum":
            drawn = [form for form in FORMS.values() if form.chance and form.takes(len(parents))]
            rules = (*(form.name for form in drawn if rng.random() < form.chance), *rules)
        scales: tuple = (None,)
        if draft.scaled:
            scales = ("plus", "times") if rng.random() < 0.5 else ("times", "plus")
        for rule in rules:
            turned = rule == "difference" and self.modulus is None
            if turned and self.values[parents[0]].number < self.values[parents[1]].number:
                parents = parents[::-1]
            for scale in scales:
                low = 2 if scale == "times" else 1
                constant = low + int(rng.random() * (self.spec.number_range - low)) if scale else None
                yield rule, scale, constant, parents

    def _scaled(self, rule: str, scale: str | None, constant: int | None, parents: tuple[str, ...]) -> Value | None:
        """The value of a definition; None if it, or the value it scales, is out of bounds."""
        inner = self._valued(rule, parents)
        if not self._within(inner):
            return None
        if scale is None:
            return inner
        value = Value(inner.number + constant, inner.slope) if scale == "plus" else Value(*(constant * part for part in inner))
        if self.modulus is not None:
            value = Value(value.number % self.modulus)
        return value if self._within(value) else None

    def _valued(self, rule: str, parents: tuple[str, ...]) -> Value:
        values = self.values
        if rule == "products":
            return self._product(parents)
        if FORMS[rule].chance:
            return self._computed(rule, parents)
        number, slope = values[parents[0]]
        sign = -1 if rule == "difference" else 1
        for parent in parents[1:]:
            other = values[parent]
            number += sign * other.number
            slope += sign * other.slope
        return Value(number if self.modulus is None else number % self.modulus, slope)

    def _computed(self, rule: str, parents: tuple[str, ...]) -> Value:
        """The value of a form that is not plain; 0, which is out of bounds, if it is not linear in the unknown."""
        unknown = self.unknown[1] if self.unknown is not None else 0
        values = [self.values[parent] for parent in parents]
        code = FORMS[rule].compute([number - slope * unknown + slope * X for number, slope in values], None)
        if not in_bounds(code):
            return Value(0)
        form = decode(code)
        return Value(form) if isinstance(form, int) else Value(form.slope * unknown + form.constant, form.slope)

    def _product(self, parents: tuple[str, ...]) -> Value:
        number = slope = 0
        for count, average in zip(parents[::2], parents[1::2], strict=True):
            a, b = self.values[count], self.values[average]
            if a.slope and b.slope:
                raise OutOfRoom  # x times x
            number += a.number * b.number
            slope += a.number * b.slope + b.number * a.slope
        return Value(number, slope)

    def _size(self, value: Value) -> int:
        """The largest of a value, its slope and its constant."""
        number, slope = value
        return max(number, abs(slope), abs(number - slope * self.unknown[1])) if slope else number

    def _within(self, value: Value) -> bool:
        """Whether a value is in 1 ... max_value, and in reverse mode its slope and constant are no larger."""
        if self.modulus is not None:
            return True
        number, slope = value
        return number >= 1 and (self._size(value) if slope else number) <= self.spec.max_value
