"""A solution as data: its steps, the equation it solves in reverse, its answer, and where in the text each stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from grammar.language.lark_tables import TRACES
from grammar.reading.shapes import EndingShape, Shape

PRELUDE = TRACES.text("PRELUDE")

ErrorKind = Literal["syntax", "missing", "value", "parents", "arithmetic", "letters", "ungrounded", "equation", "answer"]


class TraceSyntaxError(ValueError):
    """A text that `trace.lark` does not accept, if a whole, well-formed solution is needed."""


class StepError(NamedTuple):
    """One thing wrong with a solution.

    kind:    what sort of error.
    step:    index of its step; None if it belongs to none.
    message: what is wrong and what was expected.
    start, end: characters of the text it concerns, `end` excluded.
    """

    kind: ErrorKind
    step: int | None
    message: str
    start: int
    end: int


class Statement(NamedTuple):
    """One chain of equalities of a step, "so C = A + B = 7 + 8 = 15": its place in the text."""

    letter: str
    text: str
    start: int
    end: int


class Step(NamedTuple):
    """One "Define NAME as LETTER; BODY." sentence.

    shape: what trace.lark makes of its body; None if it does not accept it.
    words: the typed words of the body.
    body:  the text between "; " and the full stop, standing at `offset`.
    start, end: characters of the sentence, its full stop included.
    """

    name: str
    letter: str
    shape: Shape | None
    words: Sequence[str]
    body: str
    offset: int
    start: int
    end: int

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Its chains of equalities in order; none if it is malformed or names the unknown."""
        if self.shape is None or not self.shape.chains:
            return ()
        found, at = [], self.offset
        for text in self.body.split(";"):
            start = at + len(text) - len(text.lstrip())
            found.append(Statement(text.partition("=")[0].split()[-1], text.strip(), start, at + len(text.rstrip())))
            at += len(text) + 1
        return tuple(found)


class ReverseEnding(NamedTuple):
    """The equation's solution in reverse, "We know ... Solution: x = N."; shape and words as in `Step`."""

    shape: EndingShape
    words: Sequence[str]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A solution.

    steps:   its definitions in order, malformed ones included (`Step.shape` None).
    prelude: whether it opens by announcing equations (reverse).
    ending:  the equation's solution (reverse), if any.
    answer:  the integer it ends with, if any.
    gold:    whether that is written "Answer: N." (a gold solution), not in an <answer> tag (a response).
    errors:  what trace.lark does not accept, each an error of kind "syntax" or "answer".
    length:  characters of the text it was read from.
    """

    steps: tuple[Step, ...]
    prelude: bool = False
    ending: ReverseEnding | None = None
    answer: int | None = None
    gold: bool = True
    errors: tuple[StepError, ...] = ()
    length: int = 0
