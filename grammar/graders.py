"""Report -> accepted or not: three graders, each asking more than the one before.

answer:     the answer is right.
paper:      the answer is right, and every gold quantity is present with the right value and the right parents
            (arXiv:2512.07783; on forward traces the published scorer).
executable: paper, and nothing that the solution says is wrong.
"""

from collections.abc import Callable

from grammar.checking.report import Report

_GRADERS: dict[str, Callable[[Report], bool]] = {
    "answer": lambda report: report.answer_correct,
    "paper": lambda report: report.answer_correct and report.process_accuracy == 1,
    "executable": lambda report: report.answer_correct and not report.errors,
}
GRADERS = tuple(_GRADERS)


def grade(report: Report, grader: str) -> bool:
    """Whether a grader accepts.

    Raises:
        ValueError: for an unknown grader.
    """
    check_grader(grader)
    return _GRADERS[grader](report)


def check_grader(grader: str, further: tuple[str, ...] = ()) -> None:
    """Refuse a name that is of no grader, nor among `further`.

    Raises:
        ValueError: it is not.
    """
    if grader not in (known := (*GRADERS, *further)):
        raise ValueError(f"grader {grader!r}: unknown; choose from {', '.join(known)}.")
