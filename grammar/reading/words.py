"""The typed words of statements: what is a variable, a number, a term in x; the first half of reading fast.

A statement is cut at its blanks, and each word is filed under its kind. The sequence of kinds is the statement's key:
two statements with one key differ in their letters and numbers alone, so the grammar has to read only one of them.
"""

import re

from grammar.language.tables import TRACES

UNKNOWN_BODY = TRACES.text("UNKNOWN")
_VALUES = [expansion[0] for expansion in TRACES.rule("atom")]  # the terminals that carry values
VARIABLE, INTEGER, NEGATIVE, TERM = map(_VALUES.index, ("VAR", "INT", "NEG", "TERM"))  # kinds, by their places
VALUE_KINDS = frozenset(range(len(_VALUES)))
_PATTERNS = [re.compile(TRACES.regexp(name)) for name in _VALUES]
_LIMIT = 1 << 16  # words remembered
_LONGEST = 13  # characters of a value: a sign, nine digits and "*x"


class _Kinds(dict):
    """Word -> kind, remembered; a word that carries no value is its own kind."""

    def __missing__(self, word: str) -> int | str:
        if len(word) > _LONGEST:
            return word
        kind = next((kind for kind, pattern in enumerate(_PATTERNS) if pattern.fullmatch(word)), word)
        if len(self) < _LIMIT:
            self[word] = kind
        return kind


KINDS = _Kinds()


def is_variable(word: str) -> bool:
    """Whether a word may name a result in a trace."""
    return KINDS[word] == VARIABLE


def cut(body: str) -> list[str]:
    """The words of a statement in published spacing; other spacing yields words that no key knows."""
    if "(" in body:
        body = body.replace("(", "( ").replace(")", " )")
    return body.replace(";", " ;").split(" ")


def join(words: list[str]) -> str:
    """Words back as text, in published spacing."""
    return " ".join(words).replace(" ;", ";").replace("( ", "(").replace(" )", ")")
