"""Judges rows: a response, and what to judge it against.

A row has `response` (what a model wrote after `<solution>`; without it the row's own `solution` is judged) and what to
judge it against: `problem` and `question`, or `solution` (the gold trace), or both. `judge_row` says which counts.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from grammar.checking.published_scorer import published_verdict
from grammar.checking.verify import verify
from grammar.graders import grade
from grammar.problem.graph import Graph
from grammar.reading.gold_graph import graph_of
from grammar.reading.parse import parse_response, parse_trace, require
from grammar.reading.problem import read_problem

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
        id, accepted, answer_correct, process_accuracy, basis, well_posed, unread, nodes, errors.

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


def judge_line(
    item: tuple[int, str], grader: str, modulus: int | None, moduli: Mapping[str, int | None], stem: str
) -> tuple[int, Row | None, str]:
    """Judge a numbered line of a file.

    Args:
        item:    the line's number, and the line.
        grader:  see `judge_row`.
        modulus: of all rows; None: that of the row's context.
        moduli:  context -> what it computes modulo.
        stem:    the context of a row that names none.

    Returns:
        The line's number, its verdict or None, and why it has none.
    """
    number, line = item
    try:
        row = read_row(line)
        context = row.get("template") if isinstance(row, dict) else None
        return number, judge_row(row, grader, moduli.get(str(context or stem)) if modulus is None else modulus), ""
    except ValueError as error:  # JSON, problem and trace errors
        return number, None, str(error).splitlines()[0] if str(error) else type(error).__name__
