"""Problems to be evaluated on from JSONL files that people have.

A row has `problem` and `question` and, where known, `solution` (gold), `op`, `template` (context), `mode` and `id`, as in the
published schema; `modulus` where its context is none of ours and computes modulo something. The problem's text is the authority;
where it determines no answer, the gold solution is.
"""

import json
from pathlib import Path
from typing import Any

from datamodules.context import context_names, load_context
from datamodules.mixture import Cell
from datamodules.synthesis import Example
from grammar.judge import authority


def read_problems(path: Path) -> list[Example]:
    """Read a file of problems.

    Raises:
        ValueError: no such file, or a row that is no problem; names the line.
    """
    if not path.is_file():
        raise ValueError(f"held_out.files: {str(path)!r} does not exist.")
    found = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    found.append(_example(json.loads(line), path.stem, number))
                except (ValueError, KeyError, TypeError, AttributeError) as err:
                    raise ValueError(f"{path}, line {number}: {type(err).__name__}: {err}") from err
    if not found:
        raise ValueError(f"{path}: expected rows with `problem` and `question`, found none.")
    return found


def _example(row: dict[str, Any], stem: str, number: int) -> Example:
    template = row.get("template") or stem
    modulus = load_context(template).modulus if template in context_names() else row.get("modulus")
    graph, _, _ = authority(row, modulus)
    mode = row.get("mode") or ("normalforward" if graph.unknown is None else "forwardreverse")
    cell = Cell(int(row.get("op") or graph.op), template, mode)
    name = str(row.get("id") or f"{stem}-{number}")
    return Example(name, row["problem"], row.get("question", ""), row.get("solution") or "", cell, graph)
