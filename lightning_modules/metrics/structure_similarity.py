"""Similarity of the structures of solved problems between contexts, without names and numbers (arXiv:2512.07783, Figure 5).

The paper gives no formula. Here, a graph is represented by its Weisfeiler-Lehman features (Shervashidze et al., 2011): counts of
its neighbourhoods of up to `ROUNDS` steps. The similarity of two graphs is the cosine of their counts; that of context B to
context A at some number of operations is the mean over B's graphs of the highest similarity to a graph of A.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from grammar import Graph, Report
from grammar.reading.gold_graph import graph_of
from lightning_modules.metrics.problem_table import JoinedRows

ROUNDS = 3
FEATURES = 512  # hash buckets in which neighbourhoods are counted
SOURCES = ("gold", "answer", "executable")  # graphs of all problems; of the samples that a grader accepts
PER_PROBLEM = 4  # maximum of accepted samples of a problem whose structure is read

Parents = Mapping[str, Sequence[str]]


def parents_of_problem(graph: Graph) -> Parents:
    """Name -> parents, for the quantities of a gold solution."""
    return {name: graph.definitions[name].parents for name in graph.order}


def parents_of_solution(report: Report, modulus: int | None) -> Parents | None:
    """Name -> parents, as a solution defines them; None if it is not well formed."""
    try:
        graph = graph_of(report.trace, modulus=modulus)
    except ValueError:  # a right answer may follow steps that no problem can state
        return None
    return {s.name: s.parents for s in graph.statements[: len(report.trace.steps)]}  # a known number may follow (reverse)


def features(parents: Parents) -> Tensor:
    """[FEATURES] counts of the neighbourhoods of a graph."""
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    label = dict.fromkeys(children, 0)
    counts = torch.zeros(FEATURES, dtype=torch.float32)
    for _ in range(ROUNDS):
        label = {
            name: crc32(
                repr((label[name], sorted(label[p] for p in parents.get(name, ())), sorted(label[c] for c in below))).encode()
            )
            for name, below in children.items()
        }
        for value in label.values():
            counts[value % FEATURES] += 1
    return counts


class TopologyRows(JoinedRows):
    """Structures of problems and of accepted samples: rows of source, op, number of the context, then `FEATURES` counts."""

    def __init__(self) -> None:
        super().__init__(3 + FEATURES, torch.float32)

    def update(self, graph: Graph, op: int, context: int, accepted: Mapping[str, Sequence[Report]]) -> None:
        """Add a problem and the first few of its samples that each grader in `SOURCES` accepts."""
        found = [(0, features(parents_of_problem(graph)))]
        for source, grader in enumerate(SOURCES[1:], start=1):
            seen: set[str] = set()
            for report in accepted.get(grader, ())[:PER_PROBLEM]:
                parents = parents_of_solution(report, graph.modulus)
                if parents is not None and (key := repr(sorted(parents.items()))) not in seen:
                    seen.add(key)
                    found.append((source, features(parents)))
        rows = [torch.cat([torch.tensor([source, op, context], dtype=torch.float32), counts]) for source, counts in found]
        self.add(torch.stack(rows))


def similarity(a_MF: Tensor, b_NF: Tensor) -> float:
    """Mean over b's graphs of the cosine with the most similar graph of a; nan if there are none."""
    if not len(a_MF) or not len(b_NF):
        return float("nan")
    normed = [rows / rows.norm(dim=1, keepdim=True) for rows in (a_MF, b_NF)]
    return float((normed[1] @ normed[0].T).max(dim=1).values.clamp(max=1).mean())


def summarise_topology(rows_MF: Tensor, contexts: Sequence[str]) -> dict[str, Any]:
    """Source -> "B to A" -> op -> similarity, number of B's graphs; for all pairs of contexts.

    "GRADER to gold" compares what a grader accepts in B with the gold graphs of A, as the paper's Figure 5 does.
    """
    source_M, op_M, context_M = rows_MF[:, 0], rows_MF[:, 1], rows_MF[:, 2]
    result: dict[str, Any] = {}
    every = [(source, s, s) for s, source in enumerate(SOURCES)]
    every += [(f"{source} to gold", 0, s) for s, source in enumerate(SOURCES) if s]
    for source, s_a, s_b in every:
        for (a, reference), (b, other) in permutations(enumerate(contexts), 2):
            for op in op_M.unique().tolist():
                of = [rows_MF[(source_M == s) & (op_M == op) & (context_M == c), 3:] for s, c in ((s_a, a), (s_b, b))]
                if len(of[0]) and len(of[1]):
                    value = {"similarity": similarity(*of), "graphs": len(of[1])}
                    result.setdefault(source, {}).setdefault(f"{other} to {reference}", {})[str(int(op))] = value
    return result
