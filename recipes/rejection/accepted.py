"""From sampled solutions to training rows: those that a grader accepts, each once, some problems set apart."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from callbacks.files import write_text
from datamodules.problems.synthesis import ANSWER, SOLUTION
from grammar import GRADERS

TAGS = (f" {SOLUTION[1]} {ANSWER[0]} ", f" {ANSWER[1]}")
FIELDS = ("problem", "question", "op", "template", "mode", "modulus")


@dataclass(frozen=True)
class Filter:
    """Which samples of a round are kept.

    grader:           answer, paper or executable.
    most_per_problem: the most different solutions of a problem, the first ones sampled; None: all.
    validation_share: of the problems with an accepted solution, the share whose solutions are set apart.
    """

    grader: str = "executable"
    most_per_problem: int | None = 4
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1 or (self.most_per_problem is not None and self.most_per_problem < 1):
            raise ValueError(f"{self}: validation_share must be in [0, 1), most_per_problem at least 1.")
        if self.grader not in GRADERS:
            raise ValueError(f"keep: there is no grader {self.grader!r}; choose from {', '.join(GRADERS)}.")


def select(samples: Iterable[dict[str, Any]], keep: Filter) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows in the published schema, `solution` being the model's own text, and counts of what became of the samples.

    Args:
        samples: rows with `index` (of the problem), `response`, `accepted` by grader, and the fields of the published schema.
        keep: which samples to keep.

    Returns:
        Rows, and counts: `samples`, `problems`, `accepted`, `malformed` (accepted, but no text to learn from), `duplicates`,
        `surplus` (over most_per_problem), `solved_problems` and `pass@1`.
    """
    counts: dict[str, float] = dict.fromkeys(("samples", "accepted", "malformed", "duplicates", "surplus"), 0)
    kept: dict[int, dict[str, dict[str, Any]]] = {}  # problem -> solution -> row
    problems = set()
    for row in samples:
        counts["samples"] += 1
        problems.add(row["index"])
        if not row["accepted"][keep.grader]:
            continue
        counts["accepted"] += 1
        solution, mine = as_solution(row["response"]), kept.setdefault(row["index"], {})
        if solution is None:
            counts["malformed"] += 1
        elif solution in mine:
            counts["duplicates"] += 1
        elif keep.most_per_problem is not None and len(mine) == keep.most_per_problem:
            counts["surplus"] += 1
        else:
            name = f"{row['id']}-sample{row['sample']}"
            fields = {key: row[key] for key in FIELDS if key in row}
            mine[solution] = {"id": name, **fields, "solution": solution}
    solved = sum(bool(mine) for mine in kept.values())
    counts |= {"problems": len(problems), "solved_problems": solved, "pass@1": counts["accepted"] / max(1, counts["samples"])}
    return [row for mine in kept.values() for row in mine.values()], counts


def as_solution(response: str) -> str | None:
    """A response as a solution of the published schema, "... Answer: N."; None if its format is not that of training."""
    steps, tag, rest = response.strip().partition(TAGS[0])
    answer, end, beyond = rest.partition(TAGS[1])
    if not tag or not end or beyond.strip() or not answer.strip().lstrip("-").isdigit():
        return None
    return f"{steps} Answer: {answer.strip()}."


def set_apart(rows: Sequence[dict[str, Any]], share: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split rows into those to train on and those to validate on; all rows of a problem go to one side.

    Args:
        rows: with `problem` and `question`.
        share: of the problems to validate on; which ones depends on their texts alone.
    """
    digests = {text: blake2b(text.encode(), digest_size=8).digest() for text in dict.fromkeys(map(_text, rows))}
    apart = set(sorted(digests, key=digests.__getitem__)[: round(share * len(digests))])
    return [row for row in rows if _text(row) not in apart], [row for row in rows if _text(row) in apart]


def _text(row: dict[str, Any]) -> str:
    return f"{row['problem'].strip()} {row['question'].strip()}"


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSONL."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
