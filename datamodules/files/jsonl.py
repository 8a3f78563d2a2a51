"""Problems as JSONL rows in the published schema: problem, question, solution, op, id, template, mode, length, d.

Other rows are read too: `problem` and `question` suffice; `modulus` is for contexts of your own with modular arithmetic (a
shipped context, by its `template` or the name of the file, has its own).
The problem's text is the authority; if it determines no answer, the gold solution is.
"""

import re
import reprlib
from dataclasses import replace
from typing import Any

from datamodules.problems.context import context_names, load_context
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import GOLD_ANSWER, SOLUTION, Example
from grammar import parse_response, parse_trace
from grammar.judge import authority
from grammar.problem.graph import MOST_OPS

_ENDING = re.compile(r"(?:<answer>\s*(-?\d+)\s*</answer>|Answer:\s*(-?\d+)\s*\.?)$")


def to_row(example: Example, depth: int = 2) -> dict[str, Any]:
    """The row of an example; `depth` is the published `d`."""
    cell, modulus = example.cell, example.graph.modulus
    row = {
        "problem": example.problem, "question": example.question, "solution": example.solution, "op": cell.op, "id": example.id,
        "template": cell.context, "mode": cell.mode, "length": "zero_context", "d": depth,
    }  # fmt: skip
    return row if modulus is None else row | {"modulus": modulus}


def to_example(row: object, stem: str, number: int) -> Example:
    """Read a row; without `template` and `id`, its context is `stem` and its id holds the line number.

    A solution that is not in the language is left out, as nothing can be measured on it; another ending becomes `Answer: N.`.

    Raises:
        ValueError: not a row with a problem, a field of the wrong type, or a problem that determines no answer.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    problem, question, solution, template = (_text(row, key) for key in ("problem", "question", "solution", "template"))
    if not problem:
        raise ValueError("expected a `problem`, found none")
    context, modulus = template or stem, row.get("modulus")
    if modulus is not None and type(modulus) is not int:
        raise ValueError(f"expected `modulus` to be a whole number, found {modulus!r}")
    if modulus is None and context in context_names():
        modulus = load_context(context).modulus
    graph = authority(row, modulus).graph
    op, mode = stated_cell(row)
    op, mode = op or graph.op, mode or MODES[graph.unknown is not None]
    name, cell = str(row.get("id") or f"{stem}-{number}"), Cell(op, context, mode)
    example = Example(name, problem, question, published_ending(solution), cell, graph)
    return example if not parse_response(example.response).errors else replace(example, solution="")


def published_ending(solution: str) -> str:
    """A solution that ends as published ones do, from one that the language admits; else none."""
    if parse_trace(solution).errors or (answer := _ENDING.search(stripped := solution.strip())) is None:
        return ""
    steps = stripped[: answer.start()].rstrip().removesuffix(SOLUTION[1]).rstrip()
    return f"{steps}{GOLD_ANSWER}{answer[1] or answer[2]}."


def stated_cell(row: dict[str, Any]) -> tuple[int | None, str | None]:
    """The `op` and the `mode` of a row; None where it has none.

    Raises:
        ValueError: if they are no number of operations, or no mode.
    """
    op, mode = row.get("op"), row.get("mode")
    if op is not None and not (type(op) is int and 1 <= op <= MOST_OPS):
        raise ValueError(f"expected `op` to be a whole number from 1 to {MOST_OPS}, found {reprlib.repr(op)}")
    if mode is not None and mode not in MODES:
        raise ValueError(f"expected `mode` to be one of {', '.join(MODES)}, found {reprlib.repr(mode)}")
    return op, mode


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key) or ""
    if not isinstance(value, str):
        raise ValueError(f"expected `{key}` to be text, found {type(value).__name__}")
    check_unicode(value, key)
    return value


def check_unicode(text: str, key: str) -> None:
    """Refuse half of a surrogate pair, which JSON may hold and no tokenizer reads.

    Raises:
        ValueError: says where it stands.
    """
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise ValueError(f"expected `{key}` to be text, found half of a surrogate pair at character {err.start}") from None
