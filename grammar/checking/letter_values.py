"""What the words of a chain stand for: letters as declared so far, numbers as themselves."""

from functools import lru_cache

from grammar.reading.words import INTEGER, KINDS, NEGATIVE, TERM

NAN = float("nan")  # what a letter not declared stands for: equal to nothing
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
