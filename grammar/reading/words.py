"""The typed words of statements: what is a variable, a number, a term in x; the first half of reading fast.

A statement is cut at its blanks, and each word is filed under its kind. The sequence of kinds is the statement's key:
two statements with one key differ in their letters and numbers alone, so the grammar has to read only one of them.
"""

import re

UNKNOWN_BODY = "we don't know its value yet but will find it out later"
VARIABLE, INTEGER, NEGATIVE, TERM = 0, 1, 2, 3
VALUE_KINDS = frozenset((VARIABLE, INTEGER, NEGATIVE, TERM))

RESERVED = frozenset(
    ("as", "be", "by", "do", "go", "he", "if", "in", "is", "it", "me", "my", "no", "of", "on", "or", "so", "to", "up", "us", "we")
)
_PATTERNS = (
    (VARIABLE, re.compile(r"[A-Za-z]{1,2}")),
    (INTEGER, re.compile(r"[0-9]{1,9}")),
    (NEGATIVE, re.compile(r"-[0-9]{1,9}")),
    (TERM, re.compile(r"-?[0-9]{1,9}\*x|-x")),
)
_LIMIT = 1 << 16  # words remembered


def is_variable(word: str) -> bool:
    """Whether a word may name a result in a trace: one or two letters that are no word of the language."""
    return _PATTERNS[0][1].fullmatch(word) is not None and word.lower() not in RESERVED


class _Kinds(dict):
    """Word -> kind, remembered; a word that carries no value is its own kind."""

    def __missing__(self, word: str) -> int | str:
        kind: int | str = word
        if len(word) < 13 and word.lower() not in RESERVED:
            kind = next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(word)), word)
        if len(word) < 13 and len(self) < _LIMIT:
            self[word] = kind
        return kind


KINDS = _Kinds()


def cut(body: str) -> list[str]:
    """The words of a statement in published spacing; other spacing yields words that no key knows."""
    if "(" in body:
        body = body.replace("(", "( ").replace(")", " )")
    return body.replace(";", " ;").split(" ")


def join(words: list[str]) -> str:
    """Words back as text, in published spacing."""
    return " ".join(words).replace(" ;", ";").replace("( ", "(").replace(" )", ")")
