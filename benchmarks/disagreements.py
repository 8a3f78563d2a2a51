"""Where graders disagree on published responses: `python -m benchmarks.disagreements --reference FOLDER`.

FOLDER holds published rows and verdicts.jsonl: gold solutions of well-posed problems, changed in known ways. For each mode and
kind of change: how many responses `answer`, `paper`, `executable` and the published scorer (`released`) accept. And how often the
published scorer accepts a gold solution in other letters, which is as right as before, by mode and band. Writes
docs/paper/disagreements.json.
"""

import json
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random

from datamodules.problems.synthesis import shuffled_letters
from grammar import GRADERS, grade, parse_response, parse_trace, verify
from grammar.checking.published_scorer import published_verdict
from grammar.judge import authority
from grammar.reading.gold_graph import graph_of
from grammar.writing.solution import write_solution

OUT = Path("docs/paper/disagreements.json")
RENAMED = 4  # times that each gold solution is written in other letters
BANDS = {"op 2-10": range(2, 11), "op 11-14": range(11, 15), "op 15-20": range(15, 21)}
REVERSE = "forwardreverse"


def rows(folder: Path, name: str) -> list[dict]:
    """Rows of a file."""
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def by_kind(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Mode -> kind of change -> number of responses and of those that each grader accepts."""
    problems = {row["id"]: row for op in range(2, 21) for row in rows(folder, f"op{op}")}
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in (row for row in rows(folder, "verdicts") if row["well_posed"]):
        report = verify(parse_response(row["candidate"]), authority(problems[row["id"]], None).graph)
        counts = found[row["mode"]][row["kind"].partition(":")[0]]
        counts["responses"] += 1
        counts["released"] += row["strict"]
        counts.update({grader: int(grade(report, grader)) for grader in GRADERS})
    return {mode: {kind: dict(counts) for kind, counts in sorted(kinds.items())} for mode, kinds in found.items()}


def renamed(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Mode -> band -> gold solutions in other letters, and those that the published scorer accepts."""
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for band, ops in BANDS.items():
        for row in (row for op in ops for row in rows(folder, f"op{op}")):
            gold, reverse = parse_trace(row["solution"]), row["mode"] == REVERSE
            graph, order = graph_of(gold), [step.name for step in gold.steps]
            for number in range(RENAMED):
                letters = shuffled_letters(row["op"], Random(f"{row['id']}/{number}"), reverse=reverse)
                written = write_solution(graph, order, letters)
                counts = found[row["mode"]][band]
                counts["solutions"] += 1
                counts["released"] += published_verdict(written, row["solution"]).perfect
    return {mode: {band: dict(counts) for band, counts in bands.items()} for mode, bands in found.items()}


def markdown(found: Mapping[str, Mapping]) -> str:
    """The tables of docs/paper.md."""
    head = "| change of a gold solution | responses | answer | paper | executable | released |"
    lines = []
    for mode, kinds in sorted(found["by_kind"].items(), reverse=True):
        lines += [f"**{mode}**, share accepted:", "", head, "|---|---|---|---|---|---|"]
        for kind, counts in kinds.items():
            shares = [f"{counts.get(grader, 0) / counts['responses']:.2f}" for grader in (*GRADERS, "released")]
            lines.append(f"| {kind} | {counts['responses']} | {' | '.join(shares)} |")
        lines.append("")
    lines += ["Gold solutions in other letters, share that the published scorer accepts:", ""]
    lines += [f"| mode | {' | '.join(BANDS)} |", f"|---|{'---|' * len(BANDS)}"]
    for mode, bands in sorted(found["renamed"].items(), reverse=True):
        shares = [f"{bands[band].get('released', 0) / bands[band]['solutions']:.2f}" for band in BANDS]
        lines.append(f"| {mode} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main() -> None:
    """Judges, writes, prints."""
    parser = ArgumentParser(prog="python -m benchmarks.disagreements", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of published rows and verdicts")
    args = parser.parse_args()
    found = {"by_kind": by_kind(args.reference), "renamed": renamed(args.reference)}
    OUT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
