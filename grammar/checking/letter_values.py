"""What the words of a chain stand for: letters as declared so far, numbers as themselves; and whether sides match them."""

from collections.abc import Sequence
from functools import lru_cache

from grammar.problem.linear import NAN, decode, in_bounds
from grammar.reading.shapes import Side
from grammar.reading.words import INTEGER, KINDS, NEGATIVE, TERM

POINT_BOUND = 1 << 480  # keeps formulas of hostile text finite; a product of two stays within a float beside NAN


class Numbers(dict):
    """Letter -> number; integers are read as themselves, "2*x" as twice what x stands for, unknown letters as NAN."""

    def __missing__(self, word: str) -> float:
        kind = KINDS[word]
        if kind in (INTEGER, NEGATIVE):
            value = self[word] = int(word)
            return value
        if kind == TERM:
            return coefficient(word) * self["x"]
        return NAN


@lru_cache(maxsize=4096)
def coefficient(term: str) -> int:
    """The factor of x in a term such as 2*x, -2*x or -x."""
    return -1 if term == "-x" else int(term.partition("*")[0])


def letter_of(word: str) -> str:
    """The letter that a variable is, or a term in x holds."""
    return "x" if len(word) > 1 and word[-2] in "*-" else word


def show(number: float) -> str:
    """A computed number as text; "?" for one that is not known or beyond bounds."""
    return str(decode(number)) if in_bounds(number) else "?"


def filled(side: Side, numbers: Sequence[float], *, reverse: bool) -> str:
    """A side as published once values stand for its letters, without blanks; `numbers` are those of its chain."""
    return ((side.filled if reverse else side.text) % tuple(map(show, numbers[side.first : side.last]))).replace(" ", "")


def written(side: Side, words: Sequence[str]) -> str:
    """A side as it is, without blanks; `words` are those of its chain."""
    return side.text % tuple(words[side.first : side.last])
