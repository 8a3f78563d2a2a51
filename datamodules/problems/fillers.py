"""Sentences that make a text longer and its problem no harder."""

from dataclasses import replace
from functools import lru_cache
from itertools import chain
from random import Random

from datamodules.problems.context import Context, load_context
from datamodules.problems.graph_spec import Drawn, GraphSpec, OutOfRoom
from datamodules.problems.structure import Names
from grammar import Quantity


def with_fillers(drawn: Drawn, own: Context, spec: GraphSpec, rng: Random) -> Drawn:
    """The problem with sentences at random places that give numbers of another context, which nothing else mentions.

    A model tells them by their words, so that they take no planning: lengths and distances vary, and overlap between numbers of
    operations that alone would have lengths of their own.

    Args:
        drawn: the problem.
        own: its context.
        spec: how many sentences, of which context.
        rng: draws them.

    Raises:
        ValueError: the other context has too few names, or names of the problem's context.
    """
    context, modulus = load_context(spec.fillers_of), drawn.graph.modulus
    if shared := _shared(own, context):
        raise ValueError(
            f"graph.fillers_of: context {context.name!r} has names of {own.name!r}, e.g. {min(shared)!r}; choose another context."
        )
    fewest, most = spec.fillers
    names = Names(context, rng, depth=2, wanted=most)
    statements = list(drawn.graph.statements)
    for _ in range(rng.randint(fewest, most)):
        number = rng.randrange(modulus) if modulus else rng.randrange(1, spec.number_range)
        try:
            filler = Quantity(names.anywhere(), "given", (), number)
        except OutOfRoom as error:
            raise ValueError(f"context {context.name!r} has fewer names than graph.fillers asks for, {most}.") from error
        statements.insert(rng.randint(0, len(statements)), filler)
    return replace(drawn, graph=replace(drawn.graph, statements=tuple(statements)))


@lru_cache
def _shared(one: Context, other: Context) -> set[str]:
    """Words by which a number of one context would be one of the other's: a place, whose totals count it, or a bare item."""
    if one.places and other.places:
        return {*chain(*one.places)} & {*chain(*other.places)}
    return set() if one.places or other.places else {*chain(*one.items)} & {*chain(*other.items)}
