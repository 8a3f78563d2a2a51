"""Rows per second on one core, their text included: `python -m benchmarks.generate_speed`.

A row is an example of the training split with problem, question and solution as text. Every row is another one; rows of all
cells take turns, so that the mean is over cells as a mixture would draw them. Seconds are those of this process's CPU.

--plot FOLDER  measures single operation counts up to 100 as well and writes generate_speed.png and .json there.
--rows N       draws N rows and prints the memory of the process on the way: it must stay flat.
"""

import json
import time
from argparse import ArgumentParser
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt

from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Cell, Component, Mixture
from datamodules.problems.synthesis import Synthesis

CONTEXTS = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")
OPS = range(2, 21)
SWEEP = (2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100)
TABLE = (2, 10, 20)
TARGETS = {"op 2-20, both modes": 3000, "op 20, both modes": 1000}


def synthesis(depth: int = 2) -> Synthesis:
    """The published contexts with default graphs."""
    return Synthesis(Mixture([Component("2-20", CONTEXTS)]), GraphSpec(depth=depth))


def seconds(ops: list[int], modes: list[str], per_cell: int, depth: int = 2) -> float:
    """CPU seconds of one row, over all cells."""
    source = synthesis(depth)
    cells = [Cell(*cell) for cell in product(ops, CONTEXTS, modes)]
    for cell in cells:
        source.example("train", 0, cell)  # what is read once per process
    started = time.process_time()
    for index in range(1, per_cell + 1):
        for cell in cells:
            source.example("train", index, cell)
    return (time.process_time() - started) / (per_cell * len(cells))


def table(per_cell: int) -> dict[str, float]:
    """Name of a case -> rows per second."""
    cases: dict[str, tuple[list[int], list[str], int]] = {"op 2-20, both modes": ([*OPS], [*MODES], 2)}
    cases |= {f"op {op}, {mode}": ([op], [mode], 2) for op in TABLE for mode in MODES}
    cases |= {"op 20, both modes": ([20], [*MODES], 2), "op 2-20, both modes, depth 3": ([*OPS], [*MODES], 3)}
    rates = {}
    for name, (ops, modes, depth) in cases.items():
        count = max(1, per_cell * len(OPS) // len(ops))
        rates[name] = 1 / min(seconds(ops, modes, max(1, count // 3), depth) for _ in range(3))
    return rates


def resident_mib() -> float:
    """Memory of this process that is in RAM now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory(rows: int) -> list[tuple[int, float]]:
    """(rows drawn, MiB resident), ten times over a long run."""
    source = synthesis()
    cells = [Cell(*cell) for cell in product(OPS, CONTEXTS, MODES)]
    found = []
    for index in range(rows):
        source.example("train", index, cells[index % len(cells)])
        if (index + 1) % max(1, rows // 10) == 0:
            found.append((index + 1, resident_mib()))
            print(f"{index + 1:9} rows  {found[-1][1]:7.1f} MiB", flush=True)
    return found


def plot(folder: Path, per_cell: int, rates: dict[str, float]) -> None:
    """Cost of a row against its operations, kept with the table."""
    cost = {mode: [1e3 * min(seconds([op], [mode], per_cell) for _ in range(3)) for op in SWEEP] for mode in MODES}
    folder.mkdir(parents=True, exist_ok=True)
    result = {"rows per second": rates, "ops": SWEEP, "milliseconds per row": cost}
    (folder / "generate_speed.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for mode, values in cost.items():
        axes.plot(SWEEP, values, "o-", label=mode)
    axes.set(xlabel="operations", ylabel="ms per row, one core", xlim=(0, None), ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / "generate_speed.png", dpi=120)


def main() -> None:
    """Measures and prints the table."""
    parser = ArgumentParser(prog="python -m benchmarks.generate_speed", description=__doc__)
    parser.add_argument("--per-cell", type=int, default=30, help="rows of each operation count, context and mode")
    parser.add_argument("--plot", type=Path, help="folder for the plot of cost against operations")
    parser.add_argument("--rows", type=int, help="draw so many rows and watch memory instead")
    args = parser.parse_args()
    if args.rows:
        memory(args.rows)
        return
    rates = table(args.per_cell)
    if args.plot:
        plot(args.plot, args.per_cell, rates)
    print(f"{'rows of':30} {'per second':>10} {'target':>7} {'ratio':>6}")
    for name, rate in rates.items():
        target = TARGETS.get(name, 0)
        print(f"{name:30} {rate:10.0f} {target or '':>7} {f'{rate / target:6.2f}' if target else ''}")


if __name__ == "__main__":
    main()
