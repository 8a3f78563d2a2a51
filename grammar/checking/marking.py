"""A solution line by line, for people: each step marked right or wrong, and under it what the verifier says of it."""

from operator import itemgetter
from typing import NamedTuple

from grammar.checking.report import Report
from grammar.reading.trace import PRELUDE, StepError

MARKS = {True: "✓", False: "✗", None: " "}


class MarkedLine(NamedTuple):
    """A line to show.

    text:  a step, text that is none, what is missing, or the answer.
    right: whether nothing is wrong with it; None if it says nothing that could be.
    notes: what is wrong with it, each "KIND: MESSAGE".
    """

    text: str
    right: bool | None
    notes: tuple[str, ...] = ()


def marked(text: str, report: Report, answer: int | None = None) -> list[MarkedLine]:
    """The lines of a solution: what it says, in its order; what it leaves out; its answer, always the last line.

    Args:
        text:   the solution.
        report: its verdict.
        answer: the right answer, told where the solution gives none.
    """
    return [*_said(text, report), *_left_out(report), _answered(report, answer)]


def _said(text: str, report: Report) -> list[MarkedLine]:
    """Steps, the equation's solution, and text that could not be read, up to the end of what the error concerns."""
    trace, errors = report.trace, report.errors
    pieces = [(step.start, step.end, [e for e in errors if e.step == i]) for i, step in enumerate(trace.steps)]
    pieces += [(e.start, e.end, [e]) for e in errors if e.step is None and e.kind == "syntax"]
    if trace.ending is not None:
        pieces.append((trace.ending.start, trace.ending.end, [e for e in errors if e.step is None and e.kind == "equation"]))
    lines = [MarkedLine(PRELUDE, None)] if trace.prelude else []
    at = text.index(PRELUDE) + len(PRELUDE) if trace.prelude else 0
    for _, end, wrong in sorted(pieces, key=itemgetter(0)):
        lines.append(MarkedLine(_readable(text[at:end]), not wrong, _notes(wrong)))
        at = end
    return lines


def _left_out(report: Report) -> list[MarkedLine]:
    """Quantities never defined, and an equation never solved."""
    unsolved = report.trace.ending is None
    kinds = ("missing", "equation") if unsolved else ("missing",)
    return [MarkedLine(error.message, False) for error in report.errors if error.step is None and error.kind in kinds]


def _answered(report: Report, right: int | None) -> MarkedLine:
    notes = _notes([error for error in report.errors if error.kind == "answer"])
    if report.answer is not None:
        return MarkedLine(f"answer {report.answer}", report.answer_correct, notes)
    return MarkedLine("no answer", False, notes if right is None else (*notes, f"answer: the answer is {right}"))


def _notes(errors: list[StepError]) -> tuple[str, ...]:
    return tuple(f"{error.kind}: {error.message}" for error in errors)


def _readable(text: str) -> str:
    """Text on one line, with single blanks; what does not print is escaped."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
