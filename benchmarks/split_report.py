"""Which cells are too small to keep look-alikes in one split: `python -m benchmarks.split_report`.

For each kind of graph, context and mode: the operations at which problems that differ in names alone count as different, with
the most structures there can be (`datamodules/problems/splits.py`) and how many were met in draws, all other operations from 2 on
ignoring names; and the operations from which on the needed part alone counts. Writes splits.json, prints the same.
"""

import json
from argparse import ArgumentParser
from pathlib import Path
from random import Random

from datamodules.problems.context import context_names, load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.sampler import sample_graph
from datamodules.problems.splits import names_count, needed_hash, split_hash, structure_hash, structures

SPECS = {
    "default": GraphSpec(),
    "default, depth 3": GraphSpec(depth=3),
    "no distractors": GraphSpec(distractors=(0, 0)),
    "no distractors, published unknown": GraphSpec(distractors=(0, 0), unknown_range=(1, 4)),
    "quickstart": GraphSpec(
        max_terms=2, differences=0.0, constants=0.0, distractors=(0, 0), shuffle=False,
        reuse=0.3, copies=0.17, early_leaves=0.15, end_copies=0.3,
    ),
}  # fmt: skip
MOST_OPS = 20


def exceptions(spec: GraphSpec, name: str, *, reverse: bool, draws: int) -> dict[int, dict[str, int]]:
    """Operations at which names count -> the most structures there can be, and those met."""
    context = load_context(name)
    found = {}
    for op in range(2, MOST_OPS + 1):
        if names_count(op, context, spec, reverse=reverse):
            rng = Random(op)
            met = {structure_hash(sample_graph(op, context, spec, rng, reverse=reverse).graph) for _ in range(draws)}
            found[op] = {"at most": structures(op, context, spec, reverse=reverse), "met": len(met)}
    return found


def needed_from(spec: GraphSpec, name: str, *, reverse: bool) -> int:
    """The operations from which on a split is decided by what the answer needs."""
    by = [split_hash(op, load_context(name), spec, reverse=reverse) is needed_hash for op in range(2, MOST_OPS + 1)]
    assert by == sorted(by)
    return 2 + by.index(True)


def main() -> None:
    """Lists and writes."""
    parser = ArgumentParser(prog="python -m benchmarks.split_report", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/data"), help="folder for the numbers")
    parser.add_argument("--draws", type=int, default=5000, help="problems drawn of each small cell")
    args = parser.parse_args()
    report: dict[str, dict[str, dict]] = {}
    for title, spec in SPECS.items():
        kinds: dict[tuple[bool, bool], list[str]] = {}  # contexts with the same arithmetic and places have the same cells
        for name in context_names():
            context = load_context(name)
            if spec.depth == 2 or context.parts:
                kinds.setdefault((context.modulus is None, bool(context.places)), []).append(name)
        for (plain, _), names in kinds.items():
            for reverse in (False, True) if plain else (False,):
                found = exceptions(spec, names[0], reverse=reverse, draws=args.draws)
                first = needed_from(spec, names[0], reverse=reverse)
                cell = {"names count": found, "needed part from op": first}
                report.setdefault(title, {})[f"{', '.join(names)}; {'reverse' if reverse else 'forward'}"] = cell
                cells = "; ".join(f"op {op}: {row['met']} of at most {row['at most']}" for op, row in found.items())
                print(f"{title:34} {names[0]:15} {'reverse' if reverse else 'forward'}  needed: op {first}  {cells or 'none'}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "splits.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
