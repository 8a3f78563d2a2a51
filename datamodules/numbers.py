"""Numbers for a planned graph: leaves, constants and operators, chosen so that every value stays in bounds."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from datamodules.context import Context
from datamodules.graph_spec import Drawn, GraphSpec, OutOfRoom
from grammar import Graph, Quantity


def with_numbers(plan: list[Quantity], context: Context, spec: GraphSpec, rng: Random) -> Drawn:
    """Choose leaves, constants and operators, leaves first, so that every value lies in 1 ... max_value."""
    values: dict[str, int] = {}
    statements: list[Quantity] = []
    for blank in reversed(plan):
        quantity, values[blank.name] = _numbered(blank, values, context.modulus, spec, rng)
        if quantity.rule != "total":
            statements.append(quantity)
    order = tuple(values)
    if spec.shuffle:
        rng.shuffle(statements)
    return Drawn(Graph(tuple(statements), question=plan[0].name, modulus=context.modulus), order)


def _numbered(blank: Quantity, values: dict[str, int], modulus: int | None, spec: GraphSpec, rng: Random) -> tuple[Quantity, int]:
    """Fill in one definition. Under a modulus every value is fine; else the first variant within bounds is taken."""
    if blank.rule == "given":
        low, high = (0, modulus - 1) if modulus else (1, spec.number_range - 1)
        number = rng.randint(low, high)
        return replace(blank, constant=number), number
    for quantity in _variants(blank, values, modulus, spec, rng):
        value = _value(quantity, values)
        if modulus is not None:
            return quantity, value % modulus
        if 1 <= value <= spec.max_value and _inner_value(quantity, values) >= 1:
            return quantity, value
    raise OutOfRoom


def _variants(blank: Quantity, values: dict[str, int], modulus: int | None, spec: GraphSpec, rng: Random) -> Iterator[Quantity]:
    """Yield the ways to fill in `blank`, in random order: sum or difference, plus or times."""
    rules = [blank.rule]
    if blank.rule == "sum" and len(blank.parents) == 2:
        rules = ["difference", "sum"] if rng.random() < spec.differences else ["sum", "difference"]
    scales = rng.sample(["plus", "times"], 2) if blank.scale else [None]
    for rule in rules:
        parents = blank.parents
        if rule == "difference" and modulus is None and values[parents[0]] < values[parents[1]]:
            parents = parents[::-1]
        for scale in scales:
            low = 2 if scale == "times" else 1
            constant = rng.randint(low, spec.number_range - 1) if scale else blank.constant
            yield replace(blank, rule=rule, parents=parents, scale=scale, constant=constant)


def _inner_value(quantity: Quantity, values: dict[str, int]) -> int:
    first, *rest = (values[p] for p in quantity.parents)
    return first - rest[0] if quantity.rule == "difference" else first + sum(rest)


def _value(quantity: Quantity, values: dict[str, int]) -> int:
    inner = _inner_value(quantity, values)
    if quantity.scale == "plus":
        return quantity.constant + inner
    return quantity.constant * inner if quantity.scale == "times" else inner
