"""Which rows are problems of a given set, up to the order of sentences: what is trained on must not be evaluated on."""

import re
from collections.abc import Iterable
from typing import Literal

from datamodules.problems.splits import canonical_hash
from datamodules.problems.synthesis import Example, TrainingText
from grammar.reading.problem import read_problem

Overlap = Literal["refuse", "allow"]
_NUMBER = re.compile(r"[0-9]+")


class KnownProblems:
    """A set of problems. A text is parsed only if its numbers are those of one of them, so most rows cost a glance."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._texts: set[tuple[str, str]] = set()
        self._numbers: set[tuple[str, ...]] = set()
        self._hashes: set[bytes | None] = set()
        for example in examples:
            self._texts.add(_text(example))
            self._numbers.add(_numbers(example))
            self._hashes.add(_hash(example))

    def __contains__(self, row: TrainingText) -> bool:
        """Whether a row is one of the problems: the same text, or the same statements in any order and the same question."""
        if _text(row) in self._texts:
            return True
        if _numbers(row) not in self._numbers:
            return False
        return _hash(row) in self._hashes


def _hash(row: TrainingText) -> bytes | None:
    """The hash of what a text says, as far as the grammar reads it; the graph of an ill-posed problem says something else."""
    try:
        return canonical_hash(read_problem(row.problem, row.question)[0])
    except ValueError:  # a text that the grammar does not read: then only an equal text is the same
        return canonical_hash(row.graph) if isinstance(row, Example) else None


def _text(row: TrainingText) -> tuple[str, str]:
    return row.problem.strip(), row.question.strip()


def _numbers(row: TrainingText) -> tuple[str, ...]:
    """The numbers of a problem's text, in any order."""
    return tuple(sorted(number.lstrip("0") for number in _NUMBER.findall(row.problem)))
