"""Sentences that make a text longer and its problem no harder."""

from dataclasses import replace
from random import Random

from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import Drawn, GraphSpec, OutOfRoom
from datamodules.problems.structure import Vocabulary
from grammar import Quantity


def with_fillers(drawn: Drawn, spec: GraphSpec, rng: Random) -> Drawn:
    """The problem with sentences at random places that give numbers of another context, which nothing else mentions.

    A model tells them by their words, so that they take no planning: lengths and distances vary, and overlap between numbers of
    operations that alone would have lengths of their own.

    Raises:
        ValueError: the other context has too few names, or names of the problem.
    """
    context, modulus = load_context(spec.fillers_of), drawn.graph.modulus
    fewest, most = spec.fillers
    vocabulary = Vocabulary(context, rng, depth=2, wanted=most)
    statements, taken = list(drawn.graph.statements), {*drawn.graph.quantities, *drawn.graph.undefined}
    for _ in range(rng.randint(fewest, most)):
        number = rng.randrange(modulus) if modulus else rng.randrange(1, spec.number_range)
        try:
            filler = Quantity(vocabulary.anywhere(), "given", (), number)
        except OutOfRoom as error:
            raise ValueError(f"context {context.name!r} has fewer names than graph.fillers asks for, {most}.") from error
        if filler.name in taken:
            raise ValueError(f"graph.fillers_of: context {context.name!r} has names of the problem; choose another context.")
        statements.insert(rng.randint(0, len(statements)), filler)
    return replace(drawn, graph=replace(drawn.graph, statements=tuple(statements)))
