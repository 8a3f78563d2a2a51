"""The end of a solution in reverse: "We know V = K, so we have E = K and we solve it ... Solution: x = N."

Read like statements (shapes): by `trace.lark` once for each sequence of word kinds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from lark import Token, Tree

from grammar.reading.shapes import Side, parser, read_side, tokens_of
from grammar.reading.words import KINDS, VALUE_KINDS, join

_LIMIT = 4096
_TAILS: "dict[tuple, TailShape]" = {}
_ISOLATE = "Isolate the term with x:"
_TEXT = (
    "We know {} = {}, so we have {} = {} and we solve it through the following steps: "
    "Simplifying the equation: {} = {}. Move all terms to one side: {} = {}. Isolate the term with x: {} = {}. "
    "Divide both sides by {}: {} = {} / {}. Solution: {} = {}."
)


@dataclass(frozen=True, slots=True)
class TailShape:
    """The kind of a tail.

    values:     picks its values out of its words: V, K, those of four equalities (given, simplified, moved, isolated),
        then the divisor, x, the two numbers of the quotient, x, N.
    equalities: left and right side of each.
    text:       the tail with a %s for each value; `sample` one with values.
    """

    values: Callable[[Sequence[str]], tuple[str, ...]]
    equalities: tuple[tuple[Side, Side], ...]
    text: str
    sample: str

    def __reduce__(self) -> tuple:
        """Pickles as a tail of its kind."""
        return _shape_of, (self.sample,)

    def write(self, words: Sequence[str]) -> str:
        """The tail in published spacing."""
        return self.text % self.values(words)


def write_tail(*parts: object) -> str:
    """The tail with its parts: V, K, both sides of four equalities, the divisor, x, the two of the quotient, x, N."""
    return _TEXT.format(*parts)


def _shape_of(sample: str) -> TailShape:
    return read_tail(sample)[0]


def read_tail(tail: str) -> tuple[TailShape, Sequence[str]]:
    """The shape of a tail and its words.

    Raises:
        lark.exceptions.UnexpectedInput: if `trace.lark` does not accept it.
    """
    words = _cut(tail)
    shape = _TAILS.get(tuple(map(KINDS.__getitem__, words)))
    if shape is not None and _ISOLATE in tail:  # its x is the one word of that kind that is no value
        return shape, words
    tree = parser("tail").parse(tail)
    words = _cut(write_tail(*(join([token.value for token in tokens]) for tokens in _parts(tree))))
    shape = _build(tree, words)
    if len(_TAILS) >= _LIMIT:
        _TAILS.clear()
    _TAILS[tuple(map(KINDS.__getitem__, words))] = shape
    return shape, words


def _cut(tail: str) -> list[str]:
    spaced = tail.replace(".", " .").replace(",", " ,").replace(":", " :")
    return spaced.replace("(", "( ").replace(")", " )").split(" ")


def _parts(tree: Tree) -> list[list[Token]]:
    """The tokens of each part that `write_tail` takes."""
    parts = []
    for child in tree.children:
        if isinstance(child, Token):
            parts.append([child])
        elif child.data == "equality":
            parts.extend(tokens_of(side) for side in child.children)
        else:
            parts.append(tokens_of(child))
    return parts


def _build(tree: Tree, words: list[str]) -> TailShape:
    skipped = next(i for i in range(len(words)) if words[i : i + 2] == ["x", ":"] and words[i - 1] == "with")
    places = [i for i, word in enumerate(words) if KINDS[word] in VALUE_KINDS and i != skipped]
    equalities, at = [], 2
    for child in tree.children:
        if isinstance(child, Tree) and child.data == "equality":
            left = read_side(tokens_of(child.children[0]), at)
            right = read_side(tokens_of(child.children[1]), left.last)
            equalities.append((left, right))
            at = right.last
    held = frozenset(places)
    text = " ".join("%s" if i in held else word for i, word in enumerate(words))
    for mark in (" .", " ,", " :", " )"):
        text = text.replace(mark, mark[1:])
    text, values = text.replace("( ", "("), itemgetter(*places)
    return TailShape(values, tuple(equalities), text, text % values(words))
