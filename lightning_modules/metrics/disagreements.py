"""Where graders disagree, sample by sample, each disagreement under one cause, so that causes add up to the difference.

A sample is faulty, as the grader `paper` sees it, by the first of these that it has: "missing" a gold quantity; "parents", a gold
quantity made of others (a dependency mismatch); "values", a wrong number. Among samples with the right answer these are all that
`answer` accepts and `paper` does not. What `paper` accepts and `executable` does not counts under its first error.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

from grammar import Report, grade
from grammar.reading.trace import ErrorKind

ERROR_KINDS: tuple[str, ...] = get_args(ErrorKind)
FAULTS: Mapping[str, tuple[str, ...]] = {
    "missing": ("missing",), "parents": ("wrong_parents", "wrong_both"), "values": ("wrong_value",),
}  # fmt: skip
RELEASED = "released"  # the published scorer as a grader (`grammar/checking/published_scorer.py`)
COUNTED = (
    *(f"fault/{fault}" for fault in FAULTS), *(f"answered/{fault}" for fault in FAULTS),
    *(f"unsound/{kind}" for kind in ERROR_KINDS), RELEASED, "released/only", "released/not",
)  # fmt: skip


def fault_of(report: Report) -> str | None:
    """The fault of a sample; None if every gold quantity is right."""
    statuses = {node.status for node in report.nodes}
    return next((fault for fault, signs in FAULTS.items() if statuses & {*signs}), None)


def count_disagreements(reports: Sequence[Report], released: Sequence[bool] | None = None) -> list[float]:
    """A count of the samples of one problem for each of `COUNTED`.

    Args:
        reports: of each sample.
        released: whether the published scorer accepts each; None if it was not asked, and its counts are nan.
    """
    counts = dict.fromkeys(COUNTED, 0.0)
    for report in reports:
        if (fault := fault_of(report)) is not None:
            counts[f"fault/{fault}"] += 1
            counts[f"answered/{fault}"] += report.answer_correct
        if grade(report, "paper") and report.errors:
            counts[f"unsound/{report.errors[0].kind}"] += 1
    paper = [grade(report, "paper") for report in reports]
    if released is None:
        counts |= dict.fromkeys((RELEASED, "released/only", "released/not"), float("nan"))
    else:
        counts[RELEASED] = sum(released)
        counts["released/only"] = sum(a and not b for a, b in zip(released, paper, strict=True))
        counts["released/not"] = sum(b and not a for a, b in zip(released, paper, strict=True))
    return [counts[name] for name in COUNTED]
