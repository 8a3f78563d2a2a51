"""Assigns each problem to one split by a hash, so that held-out problems are never trained on.

`canonical_hash` ignores the order of sentences. `structure_hash` also ignores names, so that problems which differ only in names
are in one split, and `needed_hash` what the answer does not need. In a cell with few structures a split would then have few kinds
of problems or none; `names_count` says which cells are too small, `split_hash` which hash a cell has.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from math import comb, factorial

from datamodules.problems.context import Context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.structure import MAX_TERMS, MAX_TOTAL
from grammar import Graph

SPLITS = {"train": 0.9, "validation": 0.05, "test": 0.05}  # shares of the space of hashes
ENOUGH_STRUCTURES = 10_000


def canonical_hash(graph: Graph) -> bytes:
    """Digest of a problem that does not depend on the order of its sentences."""
    statements = sorted(repr((s.name, s.rule, s.parents, s.constant, s.scale)) for s in graph.statements)
    return _digest("\n".join((*statements, graph.question)).encode())


def structure_hash(graph: Graph) -> bytes:
    """Digest of a problem that depends neither on the order of its sentences, nor on that of summands, nor on names.

    Each quantity is marked by its definition and the marks of its parents, then by that and the marks of its users. Problems
    equal up to renaming have equal digests; others almost never do.
    """
    quantities, undefined = graph.quantities, _digest(b"undefined")
    marks = dict.fromkeys(graph.undefined, undefined)
    users: defaultdict[str, list[bytes]] = defaultdict(list)
    for name in graph.sorted_names:
        quantity = quantities[name]
        parents = [marks[parent] for parent in quantity.parents]
        if quantity.rule == "products":
            parents = [a + b for a, b in zip(parents[::2], parents[1::2], strict=True)]
        if not quantity.form.ordered:
            parents.sort()
        said = f"{quantity.rule} {quantity.scale} {quantity.constant} "
        mark = marks[name] = _digest(said.encode() + b"".join(parents))
        for parent in quantity.parents:
            users[parent].append(mark)
    whole = {name: mark + b"<" + b"".join(sorted(users[name])) for name, mark in marks.items()}
    known = [whole.get(s.name, b"") + str(s.constant).encode() for s in graph.restated]
    asked = whole.get(graph.question, b"") + str(graph.modulus).encode()
    return _digest(b"|".join((*sorted(whole.values()), b"known", *sorted(known), b"asked", asked)))


def needed_hash(graph: Graph) -> bytes:
    """`structure_hash` of the part of a problem that its answer needs."""
    needed = {*graph.order, graph.question}
    return structure_hash(Graph(tuple(s for s in graph.statements if s.name in needed), graph.question, graph.modulus))


def most_different(graphs: Sequence[Graph], cells: Sequence[Hashable], count: int) -> set[int]:
    """The numbers of `count` problems: of each cell as many, the first of each needed part, then the second of each, and so on.

    A cell that has fewer leaves its places to the others.

    Args:
        graphs: of all problems.
        cells: of each.
        count: problems to choose.
    """
    times: Counter[tuple[Hashable, bytes]] = Counter()
    met = []
    for graph, cell in zip(graphs, cells, strict=True):
        times[part := (cell, needed_hash(graph))] += 1
        met.append(times[part])
    places: Counter[Hashable] = Counter()
    ranks = {}  # of each problem within its cell
    for number in sorted(range(len(graphs)), key=met.__getitem__):
        ranks[number] = places[cells[number]]
        places[cells[number]] += 1
    return {*sorted(ranks, key=ranks.__getitem__)[:count]}


def _digest(said: bytes) -> bytes:
    return blake2b(said, digest_size=8).digest()


def split_of(digest: bytes) -> str:
    """The split of the problems with this hash."""
    point, edge = int.from_bytes(digest, "big") / 2**64, 0.0
    for split, share in SPLITS.items():
        edge += share
        if point < edge:
            return split
    return split


@lru_cache(maxsize=4096)
def split_hash(op: int, context: Context, spec: GraphSpec, *, reverse: bool) -> Callable[[Graph], bytes]:
    """What decides the split of a cell's problems: problems with the same hash are in one split.

    `needed_hash` if the cell has enough structures without distractors (and the spec does not ask for whole problems); else
    `structure_hash` if it has enough with them; else `canonical_hash`.
    """
    if spec.split_by == "needed" and not names_count(op, context, replace(spec, distractors=(0, 0)), reverse=reverse):
        return needed_hash
    return canonical_hash if names_count(op, context, spec, reverse=reverse) else structure_hash


@lru_cache(maxsize=4096)
def names_count(op: int, context: Context, spec: GraphSpec, *, reverse: bool) -> bool:
    """Whether a cell is so small that problems which differ only in names count as different and may be in two splits.

    That is, `structures` gives less than ENOUGH_STRUCTURES. As it is an upper bound, a cell with enough structures always ignores
    names, and one with nearly enough may.
    """
    return structures(op, context, spec, reverse=reverse) < ENOUGH_STRUCTURES


def structures(op: int, context: Context, spec: GraphSpec, *, reverse: bool) -> int:
    """An upper bound on the problems of a cell, up to names and the order of sentences; at most ENOUGH_STRUCTURES.

    Counts the sequences of definitions, each referring to earlier ones, that spend `op` operations and leave one quantity
    unused; then the ways to add distractors. A problem is counted once for each order of its definitions, hence the bound.
    """
    leaf = context.modulus or spec.number_range - 1
    unknowns = spec.unknown_range[1] - spec.unknown_range[0] + 1
    ways: list[Counter[tuple[int, int]]] = [Counter() for _ in range(op + MAX_TOTAL + 1)]  # by operations spent:
    ways[0][0, 0] = 1  # (quantities, unused ones) -> ways
    found = 0
    for spent in range(op + 1):
        ends = {nodes: count for (nodes, unused), count in ways[spent].items() if unused == 1}
        found = sum(
            count * _distracted(nodes, leaf, context, spec) * (nodes * unknowns if reverse else 1)  # any leaf may be unknown
            for nodes, count in ends.items()
        )
        if found >= ENOUGH_STRUCTURES:  # copying the last quantity leads from every problem to one with an operation more
            return ENOUGH_STRUCTURES
        for (nodes, unused), count in ways[spent].items():
            for cost, left, choices in _definitions(nodes, unused, leaf, context, spec):
                ways[spent + cost][nodes + 1, left] += count * choices
    return found


def _definitions(nodes: int, unused: int, leaf: int, context: Context, spec: GraphSpec) -> Iterable[tuple[int, int, int]]:
    """The possible next definitions: (their operations, quantities then unused, choices)."""
    yield 1, unused + 1, leaf
    for terms in range(1, MAX_TOTAL + 1):
        for fresh in range(max(0, terms - nodes + unused), min(terms, unused) + 1):
            sets = comb(unused, fresh) * comb(nodes - unused, terms - fresh)
            left = unused - fresh + 1
            if context.places:
                yield terms, left, sets
                if spec.depth == 3 and terms % 2 == 0:
                    yield terms, left, sets * factorial(terms)
            if terms > spec.max_terms:
                continue
            orders = factorial(terms) * (2 if terms == 2 and spec.differences else 1)
            yield terms, left, sets * orders
            if spec.constants and terms < MAX_TERMS:
                yield terms + 1, left, sets * orders * (2 * spec.number_range - 3)


def _distracted(nodes: int, leaf: int, context: Context, spec: GraphSpec) -> int:
    """Ways to add distractors to a problem of `nodes` quantities."""
    fewest, most = spec.distractors
    total, ways = 0, 1
    for count in range(most + 1):
        total += ways if count >= fewest else 0
        ways *= sum(choices for _, _, choices in _definitions(nodes + count, 0, leaf, context, spec))
    return min(total, ENOUGH_STRUCTURES)
