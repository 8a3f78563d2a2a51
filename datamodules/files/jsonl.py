"""Problems as JSONL rows in the published schema: problem, question, solution, op, id, template, mode, length, d.

Other rows are read too: `problem` and `question` suffice; `modulus` is for contexts of your own with modular arithmetic.
The problem's text is the authority; if it determines no answer, the gold solution is.
"""

from typing import Any

from datamodules.problems.context import context_names, load_context
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import Example
from grammar import parse_trace
from grammar.judge import authority


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

    A solution that is not in the language is left out, as nothing can be measured on it.

    Raises:
        ValueError: not a row with a problem, a field of the wrong type, or a problem that determines no answer.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    problem, question, solution, template = (_text(row, key) for key in ("problem", "question", "solution", "template"))
    if not problem:
        raise ValueError("expected a `problem`, found none")
    modulus = load_context(template).modulus if template in context_names() else row.get("modulus")
    if modulus is not None and type(modulus) is not int:
        raise ValueError(f"expected `modulus` to be a whole number, found {modulus!r}")
    graph, _, _ = authority(row, modulus)
    mode = _text(row, "mode") or MODES[graph.unknown is not None]
    op = row.get("op") or graph.op
    if type(op) is not int:
        raise ValueError(f"expected `op` to be a whole number, found {op!r}")
    name, cell = str(row.get("id") or f"{stem}-{number}"), Cell(op, template or stem, mode)
    return Example(name, problem, question, "" if parse_trace(solution).errors else solution, cell, graph)


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key) or ""
    if not isinstance(value, str):
        raise ValueError(f"expected `{key}` to be text, found {type(value).__name__}")
    return value
