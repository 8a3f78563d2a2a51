"""Shapes of sampled problems beside those of published rows: `python -m benchmarks.topology --reference FOLDER`.

For each operation count and mode: steps of the solution, depth (quantities on the longest path), fan-out (references to the
quantity most referred to), share of quantities used more than once, of totals and of plain numbers, distractors. FOLDER holds
op2.jsonl ... op20.jsonl in the published schema; rows whose text determines no answer are left out. Writes topology.png and
topology.json, prints means over all operations.
"""

import json
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt

from datamodules.problems.mixture import MODES, Cell, Component, Mixture
from datamodules.problems.synthesis import Synthesis
from grammar import Graph, parse_problem

CONTEXTS = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")
OPS = range(2, 21)
SHOWN = ("depth", "fan-out", "reused", "steps")
Key = tuple[str, int]  # mode, operations


def shape(graph: Graph) -> dict[str, float]:
    """What a problem's graph looks like; all but distractors are of the part that the answer needs."""
    level: dict[str, int] = {}
    uses: Counter[str] = Counter()
    for name in graph.order:
        parents = graph.definitions[name].parents
        level[name] = 1 + max((level[parent] for parent in parents), default=0)
        uses.update(set(parents))
    steps = len(graph.order)
    rules = Counter(graph.definitions[name].rule for name in graph.order)
    return {
        "steps": steps,
        "depth": max(level.values()),
        "fan-out": max(uses.values()),
        "reused": sum(count > 1 for count in uses.values()) / steps,
        "totals": rules["total"] / steps,
        "plain numbers": (rules["given"] + rules["unknown"]) / steps,
        "distractors": len({s.name for s in graph.statements} - set(graph.order)),
    }


def published(folder: Path) -> Iterator[tuple[Key, Graph]]:
    """Graphs of the reference rows that are well posed."""
    for op in OPS:
        for line in (folder / f"op{op}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            graph = parse_problem(row["problem"], row["question"])
            if graph.well_posed and graph.op == op:
                yield (row["mode"], op), graph


def sampled(per_cell: int) -> Iterator[tuple[Key, Graph]]:
    """Graphs of our own rows."""
    synthesis = Synthesis(Mixture([Component("2-20", CONTEXTS)]))
    for mode, op, context, index in product(MODES, OPS, CONTEXTS, range(per_cell)):
        yield (mode, op), synthesis.example("train", index, Cell(op, context, mode)).graph


def means(graphs: Iterable[tuple[Key, Graph]]) -> dict[Key, dict[str, float]]:
    """Mean shape for each mode and operation count, and how many graphs that is of."""
    found: dict[Key, list[dict[str, float]]] = defaultdict(list)
    for key, graph in graphs:
        found[key].append(shape(graph))
    return {
        key: {"graphs": len(shapes)} | {name: round(mean(each[name] for each in shapes), 3) for name in shapes[0]}
        for key, shapes in found.items()
    }


def draw(ours: dict[Key, dict[str, float]], theirs: dict[Key, dict[str, float]], path: Path) -> None:
    """One panel for each of SHOWN, one line for each mode and source."""
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(3.2 * len(SHOWN), 3.2), layout="constrained")
    for axes, name in zip(panels, SHOWN, strict=True):
        for colour, mode in zip(("C0", "C1"), MODES, strict=True):
            axes.plot(OPS, [ours[mode, op][name] for op in OPS], colour, label=f"ours, {mode}")
            axes.plot(OPS, [theirs[mode, op][name] for op in OPS], f"{colour}o", ms=3, label=f"published, {mode}")
        axes.set(title=name, xlabel="operations", ylim=(0, None))
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, writes, prints."""
    parser = ArgumentParser(prog="python -m benchmarks.topology", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of published rows")
    parser.add_argument("--out", type=Path, default=Path("docs/data"), help="folder for plot and numbers")
    parser.add_argument("--per-cell", type=int, default=100, help="own rows of each operation count, context and mode")
    args = parser.parse_args()
    ours, theirs = means(sampled(args.per_cell)), means(published(args.reference))
    args.out.mkdir(parents=True, exist_ok=True)
    draw(ours, theirs, args.out / "topology.png")
    result = {
        name: {f"{mode} op{op}": row for (mode, op), row in rows.items()}
        for name, rows in (("ours", ours), ("published", theirs))
    }
    (args.out / "topology.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'mean over op 2-20':16} " + " ".join(f"{f'ours, {mode}':>20} {'published':>10}" for mode in MODES))
    for name in next(iter(ours.values())):
        cells = [mean(rows[mode, op][name] for op in OPS) for mode in MODES for rows in (ours, theirs)]
        print(f"{name:17} " + " ".join(f"{cell:{20 if i % 2 == 0 else 10}.2f}" for i, cell in enumerate(cells)))


if __name__ == "__main__":
    main()
