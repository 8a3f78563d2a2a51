"""`python main.py verify`: judges a file of responses, row by row.

A row has `response` (what a model wrote after `<solution>`; without it the row's own `solution` is judged) and what to
judge it against: `problem` and `question`, or `solution` (the gold trace), or both. `judge_row` says which counts.
"""

import argparse
import json
import os
import sys
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from grammar.checking.published_scorer import published_verdict
from grammar.checking.verify import verify
from grammar.graders import GRADERS, grade
from grammar.problem.graph import Graph
from grammar.reading.gold_graph import graph_of
from grammar.reading.parse import parse_response, parse_trace, require
from grammar.reading.problem import read_problem

_CHUNK = 256  # rows handed to a worker at a time

Row = dict[str, Any]


class Authority(NamedTuple):
    """What a row is judged by.

    graph:      the problem.
    basis:      "problem" if its text says so, "gold" if the gold solution does.
    well_posed: whether the text determines the gold solution's answer; None without a text.
    unread:     the sentences of the text that are not understood.
    """

    graph: Graph
    basis: str
    well_posed: bool | None
    unread: tuple[str, ...]


def judge_row(row: Row, grader: str, modulus: int | None = None) -> Row:
    """Judges one row.

    The problem's text is the authority. The gold trace's graph is if the text is absent, determines no number, or has a
    sentence that is not understood and that the answer may depend on.

    Args:
        row:     `response` and/or `solution`, `problem` and `question`; `modulus` overrides the argument.
        grader:  one of `GRADERS`, or "released": the published scorer, beside the row's gold `solution`.
        modulus: what the row's context computes modulo.

    Returns:
        id, accepted, answer_correct, process_accuracy, basis, well_posed, unread, nodes, errors; as in the contract.

    Raises:
        ValueError: if the row cannot be judged.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    own = field(row, "modulus", int)
    modulus = own if own is not None else modulus
    graph, basis, well_posed, unread = authority(row, modulus)
    response = field(row, "response", str)
    solution = field(row, "solution", str)
    if response is None and solution is None:
        raise ValueError("expected 'response' or 'solution', found neither")
    report = verify(parse_response(response) if response is not None else parse_trace(solution), graph)
    facts = report.to_dict()
    return {
        "id": row.get("id"),
        "accepted": grade(report, grader) if grader != "released" else _released(response, row),
        "answer_correct": report.answer_correct,
        "process_accuracy": report.process_accuracy,
        "basis": basis,
        "well_posed": well_posed,
        "unread": list(unread),
        "nodes": facts["nodes"],
        "errors": facts["errors"],
    }


def _released(response: str | None, row: Row) -> bool:
    """Whether the published scorer accepts a response, or the row's own solution."""
    solution = field(row, "solution", str)
    if solution is None:
        raise ValueError("the grader 'released' compares with a gold 'solution', found none")
    return published_verdict(solution if response is None else response, solution).perfect


def read_row(line: str | bytes | bytearray) -> Any:
    """The JSON of a line.

    Raises:
        ValueError: if it is none, or too deep to read.
    """
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("JSON nested too deeply; expected an object of texts and numbers") from None


def field(row: Row, key: str, kind: type) -> Any:
    """A field of a row; None where it is absent or null.

    Raises:
        ValueError: if it is of another type.
    """
    value = row.get(key)
    if value is not None and type(value) is not kind:
        raise ValueError(f"expected {key!r} to be {kind.__name__}, found {type(value).__name__}")
    return value


def authority(row: Row, modulus: int | None) -> Authority:
    """What to judge a row by.

    Raises:
        ValueError: if the row has neither a problem nor a gold solution that determine an answer.
    """
    text, solution = field(row, "problem", str), field(row, "solution", str)
    gold = parse_trace(solution) if solution is not None else None
    well_posed: bool | None = None
    unread: tuple[str, ...] = ()
    if text is not None:
        graph, sentences = read_problem(text, field(row, "question", str) or "", modulus=modulus)
        unread = tuple(sentence.text for sentence in sentences)
        certain = not (unread and graph.may_depend_on(unread))
        well_posed = certain and graph.well_posed and (gold is None or gold.answer in (None, graph.answer))
        if certain and graph.verdict[0] is not None:
            return Authority(graph, "problem", well_posed, unread)
        if gold is None:
            why = graph.why_not if certain else "the answer may depend on it"
            told = f" sentence {sentences[0].index} is not understood ({unread[0][:100]!r}) and" if unread else ""
            raise ValueError(f"{told} {why}, and there is no gold 'solution' to judge by".strip())
    if gold is None:
        raise ValueError("expected 'problem' and 'question', or 'solution', found neither")
    return Authority(graph_of(require(gold), modulus=modulus), "gold", well_posed, unread)


def _judge_line(
    item: tuple[int, str], grader: str, modulus: int | None, moduli: Mapping[str, int | None], stem: str
) -> tuple[int, Row | None, str]:
    """The line's number, its verdict, and why it has none."""
    number, line = item
    try:
        row = read_row(line)
        context = row.get("template") if isinstance(row, dict) else None
        return number, judge_row(row, grader, moduli.get(str(context or stem)) if modulus is None else modulus), ""
    except ValueError as error:  # JSON, problem and trace errors
        return number, None, str(error).splitlines()[0] if str(error) else type(error).__name__


def _judge_all(
    lines: Iterable[tuple[int, str]], arguments: argparse.Namespace, moduli: Mapping[str, int | None]
) -> Iterator[tuple[int, Row | None, str]]:
    stem = arguments.file.name.partition(".")[0]
    work = partial(_judge_line, grader=arguments.grader, modulus=arguments.modulus, moduli=moduli, stem=stem)
    if arguments.workers <= 1:
        yield from map(work, lines)
        return
    with get_context("spawn").Pool(arguments.workers) as pool:
        lines = iter(lines)
        while batch := list(islice(lines, _CHUNK * arguments.workers)):
            yield from pool.imap(work, batch, chunksize=_CHUNK)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="interplay verify", description="Judge the responses in a JSONL file.")
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


def _plain_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as source:
        yield from enumerate(source, 1)


def main(
    argv: list[str],
    moduli: Mapping[str, int | None] | None = None,
    lines_of: Callable[[Path], Iterable[tuple[int, bytes]]] = _plain_lines,
) -> int:
    """Judges a file.

    Args:
        argv:     the command's arguments.
        moduli:   context (a row's `template`, else the file's name) -> what it computes modulo.
        lines_of: a file's numbered lines, as bytes.

    Returns:
        0; 1 if some row could not be judged; 2 if the file could not be read or written.
    """
    arguments = _arguments(argv)
    partial_file = None
    try:
        if arguments.workers < 0:
            raise ValueError(f"--workers {arguments.workers}: give the number of processes, at least 1.")
        if arguments.out is not None:
            if arguments.out.is_dir():
                raise ValueError(f"--out {arguments.out} is a folder; name a file.")
            if arguments.out.exists() and arguments.file.exists() and arguments.out.samefile(arguments.file):
                raise ValueError(f"--out {arguments.out} is the file that is read; give another, as verdicts would replace it.")
            partial_file = arguments.out.with_name(f".{arguments.out.name}.{os.getpid()}")
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
        numbered = ((n, line.removeprefix(BOM_UTF8) if n == 1 else line) for n, line in lines_of(arguments.file))
        lines = ((n, line.decode(errors="replace")) for n, line in numbered if line.strip())
        tally = _write(_judge_all(lines, arguments, moduli or {}), partial_file, arguments)
        if partial_file is not None:
            partial_file.replace(arguments.out)
    except OSError as error:
        print(f"verify: {error.filename}: {error.strerror}; give a file that can be opened.", file=sys.stderr)
        return 2
    finally:
        if partial_file is not None:
            partial_file.unlink(missing_ok=True)
    return _summary(tally, arguments.grader)


def _write(judged: Iterable[tuple[int, Row | None, str]], out: Path | None, arguments: argparse.Namespace) -> Counter[str]:
    """Writes verdicts, reports rows that have none, and counts."""
    tally: Counter[str] = Counter()
    # half of a surrogate pair, which JSON may hold and UTF-8 may not, is written as JSON escapes it
    with open(out if out is not None else os.devnull, "w", encoding="utf-8", errors="backslashreplace") as sink:
        for number, verdict, problem in judged:
            if verdict is None:
                tally["failed"] += 1
                print(f"{arguments.file}, line {number}: not judged: {problem}", file=sys.stderr)
                continue
            tally.update({key: verdict[key] for key in ("accepted", "answer_correct", "process_accuracy")})
            tally.update(rows=1, gold=verdict["basis"] == "gold", ill=verdict["well_posed"] is False)
            tally.update(unread=len(verdict["unread"]))
            sink.write(json.dumps(verdict, ensure_ascii=False) + "\n")
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
