"""A solution as data: its steps, the equation it solves in reverse, its answer, each with the place it stands at."""

from dataclasses import dataclass

UNKNOWN_BODY = "we don't know its value yet but will find it out later"
PRELUDE = "The question is difficult, so we use equations to solve it."


@dataclass(frozen=True, slots=True)
class Step:
    """One "Define NAME as LETTER; BODY." sentence; `start` and `end` are character offsets, the full stop included."""

    name: str
    letter: str
    body: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A solution.

    steps:   its definitions, in order.
    prelude: whether it opens by announcing equations (reverse mode).
    tail:    the equation solving in reverse, "We know ... Solution: x = 2."; empty in forward mode.
    answer:  the number it ends with; None where there is none.
    gold:    whether that is written "Answer: N." (a gold solution) or in an <answer> tag (a response).
    """

    steps: tuple[Step, ...]
    prelude: bool = False
    tail: str = ""
    answer: int | None = None
    gold: bool = True
