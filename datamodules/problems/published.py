"""The published profile: problems distributed as those of arXiv:2512.07783's generator, where that was measured.

`published.json` holds, for each mode and band of operations, what published rows look like (`measured`: statistic -> value ->
share) and two things made from it: how many distractors to draw, and `weights`. A draw of our sampler with statistics f is kept
with a chance in proportion to exp(sum of weights of f). Of all distributions with the measured shares this is the closest to what
the sampler draws by itself (maximum entropy); no published problem is repeated. `benchmarks/published_profile.py` measures, fits.

The published generator also loses a statement of some reverse problems, which then have no answer or another one; `defective`
does the same, and only if GraphSpec.defects asks for it.
"""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from math import exp
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from datamodules.problems.graph_spec import GraphSpec
from grammar import Graph, Quantity

BANDS = {"2-4": range(2, 5), "5-7": range(5, 8), "8-10": range(8, 11), "11-14": range(11, 15), "15-20": range(15, 21)}
ANSWERS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200)  # least of each bin
NEAR: dict[str, Any] = {"unknown_range": (1, 4), "differences": 0.3, "totals": 0.45}
PROFILE = Path(__file__).with_suffix(".json")


class Measured(NamedTuple):
    """What was measured and fitted in one mode and band.

    distractors: their number -> share.
    weights:     "STATISTIC VALUE" -> weight.
    ceilings:    operations -> the greatest weight that chances distinguish.
    """

    distractors: dict[int, float]
    weights: dict[str, float]
    ceilings: dict[int, float]


def band_of(op: int) -> str:
    """The band that a number of operations falls in; beyond 20, the last.

    Raises:
        ValueError: fewer than 2.
    """
    name = next((name for name, ops in BANDS.items() if op in ops), None)
    if name is None and op < 2:
        raise ValueError(f"op={op}: a problem has at least 2 operations; raise `ops`.")
    return name or list(BANDS)[-1]


@cache
def profile(op: int, *, reverse: bool) -> Measured:
    """The profile of a cell."""
    found = json.loads(PROFILE.read_text(encoding="utf-8"))[f"{'reverse' if reverse else 'forward'} {band_of(op)}"]
    return Measured(
        {int(count): share for count, share in found["distractors"].items()}, found["weights"],
        {int(of): weight for of, weight in found["ceilings"].items()},
    )  # fmt: skip


def published_spec(spec: GraphSpec, op: int, rng: Random, *, reverse: bool) -> GraphSpec:
    """The spec of one draw: a number of distractors as measured, the published range of the unknown."""
    return proposed(spec, profile(op, reverse=reverse).distractors, rng)


def counted_spec(spec: GraphSpec, op: int, *, reverse: bool) -> GraphSpec:
    """The spec by which the structures of a cell are counted, to choose the hash of its splits."""
    if spec.profile != "published":
        return spec
    return replace(spec, distractors=(0, max(profile(op, reverse=reverse).distractors)), **NEAR)


def proposed(spec: GraphSpec, distractors: dict[int, float], rng: Random) -> GraphSpec:
    """The spec with a number of distractors drawn from these shares, and what brings draws near published ones."""
    count = rng.choices(list(distractors), list(distractors.values()))[0]
    return replace(spec, distractors=(count, count), **NEAR)


def kept(graph: Graph, op: int, rng: Random, *, reverse: bool) -> bool:
    """Whether a draw is kept, by the weights of its statistics."""
    _, weights, ceilings = profile(op, reverse=reverse)
    total = sum(count * weights.get(name, 0.0) for name, count in statistics(graph).items())
    return rng.random() < exp(min(0.0, total - ceilings.get(op, max(ceilings.values()))))


def statistics(graph: Graph, distractors: int | None = None) -> Counter[str]:
    """How often a problem has each "STATISTIC VALUE"; all but distractors are of what the answer needs.

    Args:
        graph: of the problem, or of its gold solution.
        distractors: their number; None: those of the graph.
    """
    order, definitions = graph.order, graph.definitions
    level: dict[str, int] = {}
    uses: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for name in order:
        quantity = definitions[name]
        parents = set(quantity.parents)
        level[name] = 1 + max((level[parent] for parent in parents), default=0)
        uses.update(parents)
        found[f"kind {_kind(quantity)}"] += 1
        if quantity.rule == "given":
            found[f"number {quantity.constant}"] += 1
    distractors = len({s.name for s in graph.statements} - set(order)) if distractors is None else distractors
    found[f"steps {len(order)}"] += 1
    found[f"depth {max(level.values())}"] += 1
    found[f"fan-out {max(uses.values())}"] += 1
    found[f"reused {sum(count > 1 for count in uses.values())}"] += 1
    found[f"distractors {distractors}"] += 1
    found[f"answer {_least(graph.answer or 0)}"] += 1
    return found


def _kind(quantity: Quantity) -> str:
    """Rule, number of operands and constant: "sum 3", "copy times", "total 2"."""
    operands = f" {len(quantity.parents)}" if quantity.rule in ("sum", "total") else ""
    return f"{quantity.rule}{operands}{f' {quantity.scale}' if quantity.scale else ''}"


def _least(answer: int) -> int:
    """The least answer of its bin."""
    return max((low for low in ANSWERS if low <= answer), default=0)


def defective(graph: Graph) -> Graph:
    """A problem as the published generator would state it.

    Where the last operand but one of a sum of three or more is the unknown, another "exists" of the unknown takes the place of
    the definition. Of 90 published reverse rows that are ill posed, 88 are so for exactly this reason.
    """
    unknown = next((s.name for s in graph.statements if s.rule == "unknown"), None)
    lost = [s.rule == "sum" and len(s.parents) > 2 and s.parents[-2] == unknown for s in graph.statements]
    stated = (Quantity(unknown, "unknown") if gone else said for said, gone in zip(graph.statements, lost, strict=True))
    return replace(graph, statements=tuple(stated)) if any(lost) else graph
