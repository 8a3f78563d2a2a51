"""`python main.py generate`: write problems with gold solutions as JSONL, in the published schema.

Rows are spread evenly over op x context x mode, cell by cell in turn, or drawn by a mixture. Row i depends only on the split,
the seed and i: the same arguments give the same bytes with any number of workers. `--report` prints how often a guess that only
reads numbers off the text is right, beside the most frequent answer; without `--out` it writes nothing.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track

from datamodules.files.jsonl import to_row
from datamodules.files.line_files import writing
from datamodules.problems.context import PUBLISHED
from datamodules.problems.graph_spec import GraphSpec, Profile
from datamodules.problems.guesses import Guesses, Kind, guess_table
from datamodules.problems.mixture import MODES, Cell, Component, Mixture, read_mixture
from datamodules.problems.synthesis import SPLITS, Synthesis
from grammar.checking.pool import leave_signals_to_parent

CHUNK = 256  # rows per task of a worker
TRIED = 8  # examples of each cell built before anything is written
EVENLY = {"ops": "2-20", "contexts": ",".join(PUBLISHED), "modes": MODES[0]}  # what is spread over where no mixture says it


def parse_args(argv: list[str]) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(prog="interplay generate", description=__doc__)
    parser.add_argument("--ops", help=f"operations: 5, 2-20 or 2-4,8 (default: {EVENLY['ops']})")
    parser.add_argument("--contexts", help=f"names, separated by commas (default: {EVENLY['contexts']})")
    parser.add_argument("--modes", help=f"of {', '.join(MODES)} (default: {EVENLY['modes']})")
    parser.add_argument("--mixture", help="a preset's name or a YAML list of components, instead of the above")
    parser.add_argument("--count", type=int, default=1000, help="rows in all (default: %(default)s)")
    parser.add_argument("--split", default="train", choices=list(SPLITS), help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other rows (default: %(default)s)")
    parser.add_argument(
        "--distractors", metavar="LOW-HIGH", default="0-4", help="quantities that the answer does not need (default: %(default)s)"
    )
    parser.add_argument(
        "--number-range", type=int, default=GraphSpec.number_range, help="given numbers are 1 ... N-1 (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--profile", default="plain", choices=get_args(Profile), help="plain; published: distributed as published problems; "
        "balanced: none from op 3 on whose answer such a guess gets right (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--balanced", dest="profile", action="store_const", const="balanced", help="the same as --profile balanced"
    )
    parser.add_argument("--defects", action="store_true", help="some reverse problems lack a definition, as published ones do")
    parser.add_argument("--report", action="store_true", help="print a table of the best guesses by mode and op")
    parser.add_argument("--out", type=Path, help="file to write; a name ending in .gz or .zst is compressed")
    args = parser.parse_args(argv)
    given = [f"--{name}" for name in EVENLY if getattr(args, name) is not None]
    if args.mixture and given:
        raise ValueError(f"generate: --mixture {args.mixture} says which problems; leave out {', '.join(given)}.")
    for name, usual in EVENLY.items():
        setattr(args, name, usual if getattr(args, name) is None else getattr(args, name))
    if args.out is None and not args.report:
        parser.error("the following arguments are required: --out (or --report, which prints a table)")
    return args


def main(argv: list[str]) -> int:
    """Run the command."""
    args = parse_args(argv)
    if args.out is not None and args.out.is_dir():
        raise ValueError(f"generate: --out {str(args.out)!r} is a folder; name a file.")
    if args.count < 1 or args.workers < 1:
        raise ValueError("generate: --count and --workers must be at least 1.")
    evenly = Component(args.ops, args.contexts.split(","), args.modes.split(","))
    mixture = Mixture(read_mixture(args.mixture) if args.mixture else [evenly])
    cells: list[Cell | None] = [None] if args.mixture else [*mixture.cells]
    graph = GraphSpec(
        number_range=args.number_range, distractors=parse_range(args.distractors), profile=args.profile, defects=args.defects
    )
    synthesis = Synthesis(mixture, graph, seed=args.seed)
    for cell, index in product(mixture.cells, range(TRIED)):
        synthesis.example(args.split, index, cell)
    found: dict[Kind, Guesses] = {}
    with writing(args.out) if args.out is not None else nullcontext() as write:
        chunks = _chunks(synthesis, args, cells)
        for text, guesses in track(chunks, "generate", total=-(-args.count // CHUNK), console=Console(stderr=True)):
            if write is not None:
                write(text)
            for kind, counted in guesses.items():
                found.setdefault(kind, Guesses()).merge(counted)
    if args.out is not None:
        print(f"{args.count} rows: {args.out}")
    if args.report:
        print(guess_table(found))
    return 0


def parse_range(text: str) -> tuple[int, int]:
    """Read "0-4" or "3" as minimum and maximum.

    Raises:
        ValueError: not of that form.
    """
    low, _, high = text.partition("-")
    if not low.isdecimal() or not (high or low).isdecimal():
        raise ValueError(f"--distractors {text!r}: expected LOW-HIGH such as 0-4.")
    return int(low), int(high or low)


Chunk = tuple[str, dict[Kind, Guesses]]  # the text of rows, and how well they can be guessed if that is reported


def _chunks(synthesis: Synthesis, args: Namespace, cells: list[Cell | None]) -> Iterator[Chunk]:
    """The rows, in chunks, in order."""
    make = partial(_make, synthesis, args, cells)
    starts = range(0, args.count, CHUNK)
    if args.workers == 1:
        yield from map(make, starts)
    else:
        with get_context("spawn").Pool(args.workers, leave_signals_to_parent) as pool:
            yield from pool.imap(make, starts)


def _make(synthesis: Synthesis, args: Namespace, cells: list[Cell | None], start: int) -> Chunk:
    numbers = range(start, min(start + CHUNK, args.count))
    examples = [synthesis.example(args.split, i, cells[i % len(cells)]) for i in numbers]
    guesses: dict[Kind, Guesses] = {}
    for example in examples if args.report else ():
        guesses.setdefault((example.cell.mode, example.cell.op), Guesses()).add(example.graph)
    rows = (to_row(example, synthesis.graph.depth) for example in examples)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), guesses
