"""Samples to read: problems with responses, every step marked right or wrong, and why."""

from collections import Counter
from typing import Any

from callbacks.evaluation.sample_files import problems_of
from datamodules.problems.mixture import parse_ops
from grammar import ProblemSyntaxError, Quantity, parse_problem
from recipes.report.studies import Group, StageFiles
from recipes.report.study_values import Values

PER_BAND = 6  # problems of a band and stage
PER_PROBLEM = 3  # responses of a problem, wrong ones first


def sample_browser(values: Values) -> list[dict[str, Any]]:
    """The last stage of each arm's first seed: problems of every band, with a few responses each.

    Returns:
        Stages as plain data: arm, path, problems [op, band, context, mode, problem, question, solution, answers]; the `parts` of
        an answer are the response cut into steps, with their verdicts.
    """
    found, seen = [], set()
    for group in values.study.groups:
        stage = group.runs[0].last
        if stage.folder not in seen:
            seen.add(stage.folder)
            found.append(_stage(values, group, stage))
    return [stage for stage in found if stage["problems"]]


def _stage(values: Values, group: Group, stage: StageFiles) -> dict[str, Any]:
    path = stage.path("test/samples/test.jsonl")
    config = values.files.yaml(stage.path("config.yaml")) or {}
    bands = config.get("data", {}).get("init_args", {}).get("held_out", {}).get("bands", {})
    wanted: dict[str, list[dict[str, Any]]] = {band: [] for band in bands}
    ops = {op: band for band, text in bands.items() for op in parse_ops(text)}
    file = values.files.root / path
    for rows in problems_of(file) if file.is_file() else ():
        band = ops.get(rows[0]["op"], "")
        if len(wanted.setdefault(band, [])) < PER_BAND:
            wanted[band].append(_problem(band, rows))
    problems = [problem for of in wanted.values() for problem in of]
    return {"arm": f"{group.label}, seed {group.runs[0].seed}", "path": path, "problems": problems}


def _problem(band: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    different = {row["response"]: row for row in reversed(rows)}
    chosen = sorted(different.values(), key=lambda row: (row["accepted"]["executable"], row["sample"]))[:PER_PROBLEM]
    right = [row for row in different.values() if row["accepted"]["executable"]]
    if right and right[0] not in chosen:
        chosen[-1] = right[0]
    return {
        "op": first["op"], "band": band, "context": first["template"], "mode": first["mode"], "problem": first["problem"],
        "question": first["question"], "solution": first["solution"], "right": sum(r["accepted"]["executable"] for r in rows),
        "of": len(rows), "answers": [_answer(row) for row in chosen], "graph": graph_of(first),
    }  # fmt: skip


def graph_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The quantities of a row's problem, placed for drawing: what is given on top, each other one below what computes it.

    Returns:
        For each its name, rule (how it is computed), parents (places in this list), x and y (columns and rows, 0 at the top
        left); nothing if the problem is not in the language.
    """
    try:
        graph = parse_problem(row["problem"], row["question"], modulus=row.get("modulus"))
    except ProblemSyntaxError:
        return []
    names = list(graph.mentioned)
    parents = {name: graph.quantities[name].parents if name in graph.quantities else () for name in names}
    depths = dict.fromkeys(names, 0)
    for _ in names:  # as often as the longest path is long; a circle ends there, too
        longer = {name: max((depths[p] + 1 for p in of), default=0) for name, of in parents.items()}
        if longer == depths:
            break
        depths = longer
    placed: Counter[int] = Counter()
    nodes = []
    for name in names:
        y = depths[name]
        at = {"parents": [names.index(p) for p in parents[name]], "x": placed[y], "y": y}
        nodes.append({"name": name, "rule": _rule(graph.quantities.get(name)), **at})
        placed[y] += 1
    return nodes


def _rule(quantity: Quantity | None) -> str:
    """How a quantity comes about, in a word or two."""
    if quantity is None:
        return "not defined"
    if quantity.rule == "given":
        return f"given: {quantity.constant}"
    scale = "" if quantity.scale is None else f"{quantity.constant} {quantity.scale} "
    return scale + quantity.rule


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    """A response, cut into its steps."""
    report, text, at = row["report"], row["response"], 0
    parts: list[dict[str, Any]] = []
    for step in sorted(report["steps"], key=lambda step: step["start"]):
        if step["start"] > at:
            parts.append({"text": text[at : step["start"]]})
        part = {"text": text[step["start"] : step["end"]], "right": step["correct"], "why": step["reason"]}
        parts.append(part | {"name": step["name"]})
        at = max(at, step["end"])
    parts.append({"text": text[at:]})
    errors = [f"{error['kind']}: {error['message']}" for error in report["errors"]]
    nodes = {node["name"]: node["status"] for node in report["nodes"]}
    return {"sample": row["sample"], "accepted": row["accepted"], "parts": parts, "errors": errors, "nodes": nodes}
