"""The `verify` command: judges the responses in a JSONL file, row by row.

Not here: what a row is judged by (grammar/judge.py).
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from callbacks.evaluation.sample_files import whole_lines
from datamodules.files.line_files import lines_of, writing
from datamodules.problems.context import context_names, load_context
from grammar import GRADERS
from grammar.checking.pool import leave_signals_to_parent
from grammar.judge import Row, judge_line

_CHUNK = 256  # rows handed to a worker at a time


def _judge_all(lines: Iterable[tuple[int, str]], arguments: Namespace) -> Iterator[tuple[int, Row | None, str]]:
    moduli = {name: load_context(name).modulus for name in context_names()}
    stem = arguments.file.name.partition(".")[0]
    work = partial(judge_line, grader=arguments.grader, modulus=arguments.modulus, moduli=moduli, stem=stem)
    if arguments.workers <= 1:
        yield from map(work, lines)
        return
    with get_context("spawn").Pool(arguments.workers, leave_signals_to_parent) as pool:
        lines = iter(lines)
        while batch := list(islice(lines, _CHUNK * arguments.workers)):
            yield from pool.imap(work, batch, chunksize=_CHUNK)


def _arguments(argv: list[str]) -> Namespace:
    parser = ArgumentParser(prog="interplay verify", description="Judge the responses in a JSONL file.")
    parser.add_argument("file", type=Path, help="rows with `response` and what to judge it against")
    parser.add_argument("--grader", choices=(*GRADERS, "released"), default="executable")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="where to write one verdict per row (JSONL)")
    parser.add_argument(
        "--modulus",
        type=int,
        help="what the rows compute modulo; default: as the context named in `template`, or else by the file's name",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the command.

    Returns:
        0; 1 if some row could not be judged; 2 if the file could not be read or written.
    """
    arguments = _arguments(argv)
    try:
        if arguments.workers < 0:
            raise ValueError(f"--workers {arguments.workers}: give the number of processes, at least 1.")
        if arguments.out is not None:
            if arguments.out.is_dir():
                raise ValueError(f"--out {arguments.out} is a folder; name a file.")
            if arguments.out.exists() and arguments.file.exists() and arguments.out.samefile(arguments.file):
                raise ValueError(f"--out {arguments.out} is the file that is read; give another, as verdicts would replace it.")
        numbered = ((n, line.removeprefix(BOM_UTF8) if n == 1 else line) for n, line in whole_lines(lines_of(arguments.file)))
        lines = ((n, line.decode(errors="replace")) for n, line in numbered if line.strip())
        with nullcontext(len) if arguments.out is None else writing(arguments.out) as write:
            tally = _count(_judge_all(lines, arguments), arguments.file, write)
    except OSError as error:
        print(f"verify: {error.filename}: {error.strerror}; give a file that can be opened.", file=sys.stderr)
        return 2
    return _summary(tally, arguments.grader)


def _count(judged: Iterable[tuple[int, Row | None, str]], file: Path, write: Callable[[str], object]) -> Counter[str]:
    """Writes verdicts, reports rows that have none, and counts."""
    tally: Counter[str] = Counter()
    for number, verdict, problem in judged:
        if verdict is None:
            tally["failed"] += 1
            print(f"{file}, line {number}: not judged: {problem}", file=sys.stderr)
            continue
        tally.update({key: verdict[key] for key in ("accepted", "answer_correct", "process_accuracy")})
        tally.update(rows=1, gold=verdict["basis"] == "gold", ill=verdict["well_posed"] is False)
        tally.update(unread=len(verdict["unread"]))
        # half of a surrogate pair, which JSON may hold and UTF-8 may not, is written as JSON escapes it
        write(json.dumps(verdict, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n")
    return tally


def _summary(tally: Counter[str], grader: str) -> int:
    rows = tally["rows"]
    print(f"rows judged       {rows}")
    if rows:
        print(f"accepted          {tally['accepted'] / rows:.4f}  by {grader}")
        print(f"answer correct    {tally['answer_correct'] / rows:.4f}")
        print(f"process accuracy  {tally['process_accuracy'] / rows:.4f}")
        print(f"judged by gold    {tally['gold']}")
        print(f"not well posed    {tally['ill']}")
        print(f"not understood    {tally['unread']} sentences")
    print(f"not judged        {tally['failed']}")
    return 1 if tally["failed"] else 0
