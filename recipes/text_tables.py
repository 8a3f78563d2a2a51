"""The result table of a run, read from the files its stages left."""

import json
from pathlib import Path
from typing import Any

COLUMNS = (("answer", "pass@1"), ("answer", "pass@8"), ("executable", "pass@1"), ("executable", "pass@8"))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def result_table(out: Path, stages: list[str]) -> str:
    """Stage x band: mean pass@k under two graders, tokens seen and seconds of training, as text.

    Args:
        out: folder of the experiment.
        stages: names of its stages, each with `training.json` and `test/pass_at_k.json`.
    """
    head = ["stage", "band", *(f"{grader} {metric}" for grader, metric in COLUMNS), "tokens", "seconds"]
    rows = [head]
    for stage in stages:
        cost, passes = read_json(out / stage / "training.json"), read_json(out / stage / "test" / "pass_at_k.json")
        bands = [name for name in passes if not name.removeprefix("op").isdigit()]
        for i, band in enumerate(bands):
            values = (passes[band].get(grader, {}).get(metric) for grader, metric in COLUMNS)
            scores = ["-" if v is None else f"{v['mean']:.2f} ±{v['standard_error']:.2f}" for v in values]
            first = [f"{cost['tokens'] / 1e6:.2f}M", f"{cost['seconds']:.0f}"] if i == 0 else ["", ""]
            rows.append([stage if i == 0 else "", band, *scores, *first])
    return align(rows)


def align(rows: list[list[str]]) -> str:
    """Rows as text in columns, the first one underlined as the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
