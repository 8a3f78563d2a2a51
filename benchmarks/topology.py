"""Distributions of sampled problems beside those of published rows: `python -m benchmarks.topology --reference FOLDER`.

For each mode and band of operations: the statistics of the published profile (`datamodules/problems/published.py`: distractors,
steps, depth, fan-out, reuse, kinds of definitions, given numbers, answers) and the words of problem and solution, each in bins
that hold a sixth of the published rows. FOLDER holds op2.jsonl ... op20.jsonl in the published schema. Ours are drawn twice, by
the profile "published" (with its defects, which shorten texts and change nothing else) and plainly. Beside each total variation
stands what sampling alone explains: that of as many rows drawn from the published ones themselves, its mean and the value
that one time in twenty exceeds. Writes topology.json and topology.png, prints the variations.
"""

import json
from argparse import ArgumentParser
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from random import Random
from statistics import mean, quantiles
from typing import NamedTuple

import matplotlib.pyplot as plt

from benchmarks.published_profile import shares, variation
from datamodules.problems.context import PUBLISHED
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.published import BANDS, statistics
from datamodules.problems.synthesis import Synthesis
from grammar import parse_problem, parse_trace
from grammar.reading.gold_graph import graph_of

SHOWN = ("distractors", "steps", "depth", "fan-out", "reused", "kind", "answer", "problem words", "solution words")
LENGTHS = ("problem words", "solution words")
BINS = 6  # of lengths
RESAMPLES = 400
Group = tuple[str, str]  # mode, band


class Row(NamedTuple):
    """Statistics of a problem, and the words of problem and solution."""

    found: Counter[str]
    lengths: tuple[int, int]


def words(problem: str, question: str, solution: str) -> tuple[int, int]:
    """Words of the problem with its question, and of the solution."""
    return len(f"{problem} {question}".split()), len(solution.split())


def published(folder: Path) -> Iterator[tuple[Group, Row]]:
    """Published rows; ill-posed ones too, whose solutions say what was meant."""
    for band, ops in BANDS.items():
        for line in (line for op in ops for line in (folder / f"op{op}.jsonl").open(encoding="utf-8")):
            row = json.loads(line)
            gold = graph_of(parse_trace(row["solution"]))
            others = {s.name for s in parse_problem(row["problem"], row["question"]).statements} - set(gold.order)
            lengths = words(row["problem"], row["question"], row["solution"])
            yield (row["mode"], band), Row(statistics(gold, len(others)), lengths)


def sampled(group: Group, count: int, spec: GraphSpec) -> list[Row]:
    """About `count` rows of our own, evenly over operations and contexts."""
    synthesis, (mode, band), found = Synthesis(None, spec), group, []
    cells = [Cell(op, context, mode) for op, context in product(BANDS[band], PUBLISHED)]
    for cell, index in product(cells, range(count // len(cells))):
        example = synthesis.example("train", index, cell)
        found.append(Row(statistics(example.graph), words(example.problem, example.question, example.solution)))
    return found


def grouped(rows: Iterable[tuple[Group, Row]]) -> dict[Group, list[Row]]:
    """Rows by mode and band."""
    found: dict[Group, list[Row]] = defaultdict(list)
    for group, row in rows:
        found[group].append(row)
    return found


def distributions(rows: Sequence[Row], edges: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Statistic -> value -> share; lengths in bins between `edges`."""
    found = shares(row.found for row in rows)
    for name, place, cuts in zip(LENGTHS, (0, 1), edges, strict=True):
        counts = Counter(bisect(cuts, row.lengths[place]) for row in rows)
        found[name] = {f"{bin + 1} of {BINS}": counts[bin] / len(rows) for bin in range(BINS)}
    return found


def sampling(rows: Sequence[Row], edges: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Statistic -> total variation from `rows` of as many drawn from them with replacement: mean, and 95% quantile."""
    wanted, random, apart = distributions(rows, edges), Random("sampling"), defaultdict(list)
    for _ in range(RESAMPLES):
        for name, found in distributions(random.choices(rows, k=len(rows)), edges).items():
            apart[name].append(variation(wanted[name], found))
    return {name: {"mean": round(mean(of), 4), "95%": round(quantiles(of, n=20)[-1], 4)} for name, of in apart.items()}


def lengths_cut(rows: Sequence[Row]) -> list[list[float]]:
    """Bounds of BINS bins of the lengths of problems, and of solutions."""
    return [quantiles([row.lengths[place] for row in rows], n=BINS) for place in (0, 1)]


def compare(theirs: Sequence[Row], ours: dict[str, Sequence[Row]]) -> dict[str, dict[str, object]]:
    """Statistic -> shares of published rows and of each of ours, and how far apart they are."""
    edges = lengths_cut(theirs)
    wanted = distributions(theirs, edges)
    found = {name: distributions(rows, edges) for name, rows in ours.items()}
    return {
        name: {
            "published": wanted[name], **{of: held.get(name, {}) for of, held in found.items()},
            "variation": {of: round(variation(wanted[name], held.get(name, {})), 4) for of, held in found.items()},
        }
        for name in wanted
    }  # fmt: skip


def draw(compared: dict[str, dict[str, dict]], path: Path) -> None:
    """A row of panels for each mode and band, a panel for each of SHOWN."""
    figure, grid = plt.subplots(
        len(compared), len(SHOWN), figsize=(2.2 * len(SHOWN), 1.7 * len(compared)), squeeze=False, layout="constrained"
    )
    for row, (group, found) in zip(grid, compared.items(), strict=True):
        for axes, name in zip(row, SHOWN, strict=True):
            values = sorted({value for of in ("published", "profile") for value in found[name][of]}, key=_place)
            for of, style in (("published", "k-"), ("profile", "C0--"), ("plain", "C1:")):
                axes.plot(range(len(values)), [found[name][of].get(value, 0.0) for value in values], style, label=of)
            axes.set_title(f"{name}: {found[name]['variation']['profile']:.2f}", fontsize=8)
            shown = range(0, len(values), -(-len(values) // 6))
            axes.set_xticks(shown, [values[i] for i in shown], fontsize=6, rotation=45 if name == "kind" else 0)
            axes.tick_params(axis="y", labelsize=6)
        row[0].set_ylabel(group.replace(" ", "\n", 1), fontsize=8)
    grid[0][0].legend(fontsize=6)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _place(value: str) -> tuple[int, str]:
    first = value.partition(" ")[0]
    return (int(first), value) if first.isdigit() else (0, value)


def main() -> None:
    """Draws, compares, writes, prints."""
    parser = ArgumentParser(prog="python -m benchmarks.topology", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of published rows")
    parser.add_argument("--out", type=Path, default=Path("docs/data"), help="folder for plot and numbers")
    parser.add_argument("--rows", type=int, default=1500, help="of our own in each mode and band")
    parser.add_argument("--only", nargs="+", help='to measure again, e.g. "normalforward op 5-7" (default: all)')
    args = parser.parse_args()
    path = args.out / "topology.json"
    compared = json.loads(path.read_text(encoding="utf-8")) if args.only else {}
    specs = {"profile": GraphSpec(profile="published", defects=True), "plain": GraphSpec()}
    for (mode, band), rows in sorted(grouped(published(args.reference)).items()):
        group = f"{mode} op {band}"
        if not args.only or group in args.only:
            ours = {name: sampled((mode, band), args.rows, spec) for name, spec in specs.items()}
            compared[group] = compare(rows, ours)
        for name, found in sampling(rows, lengths_cut(rows)).items() if group in compared else ():
            compared[group][name]["sampling"] = found
    args.out.mkdir(parents=True, exist_ok=True)
    compared = {f"{mode} op {band}": compared[f"{mode} op {band}"] for mode, band in product(MODES, BANDS)
                if f"{mode} op {band}" in compared}  # fmt: skip
    path.write_text(json.dumps(compared, indent=1) + "\n", encoding="utf-8")
    draw(compared, args.out / "topology.png")
    print(f"{'total variation from published':32}" + " ".join(f"{name[:11]:>11}" for name in SHOWN))
    for name, (group, found) in product(specs, compared.items()):
        cells = " ".join(f"{found[of]['variation'][name]:11.3f}" for of in SHOWN)
        print(f"{name:8}{group:24}{cells}")


if __name__ == "__main__":
    main()
