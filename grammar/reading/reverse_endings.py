"""The ending of a solution in reverse: "We know V = K, so we have E = K and we solve it ... Solution: x = N."

Read like statements (shapes): by `trace.lark` once for each sequence of word kinds.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from lark import Token, Tree

from grammar.language.tables import TRACES
from grammar.reading.shapes import Side, read_side, tokens_of
from grammar.reading.words import KINDS, VALUE_KINDS, cut, join

_LIMIT = 4096  # shapes remembered
_SHAPES: "dict[tuple, EndingShape]" = {}
_BETWEEN = " | "  # between parts that are cut into words together


def _template() -> str:
    """The ending in published spacing, {} for each of its parts, as `trace.lark` has it."""
    holes = {"VAR": "{}", "number": "{}", "equality": f"{{}} {TRACES.text('_EQ')} {{}}"}
    text = " ".join(holes.get(symbol) or TRACES.text(symbol) for symbol in TRACES.rule("ending")[0])
    return re.sub(r" (?=[.,:])", "", text)


_TEMPLATE = _template()
_PARTS = re.compile("([^=.,:]+)".join(map(re.escape, _TEMPLATE.split("{}"))))


@dataclass(frozen=True, slots=True)
class EndingShape:
    """The kind of an ending.

    values:     picks its values out of its words: V, K, those of four equalities (given, simplified, moved, isolated),
        then the divisor, x, the two numbers of the quotient, x, N.
    equalities: left and right side of each.
    sample:     an ending of this kind.
    """

    values: Callable[[Sequence[str]], tuple[str, ...]]
    equalities: tuple[tuple[Side, Side], ...]
    sample: str

    def __reduce__(self) -> tuple:
        """Pickles as an ending of its kind: what computes its sides does not pickle."""
        return _shape_of, (self.sample,)

    def write(self, words: Sequence[str]) -> str:
        """The ending in published spacing."""
        return _written(words)


def _written(words: Sequence[str]) -> str:
    return write_ending(*join(words).split(_BETWEEN))


def _shape_of(sample: str) -> EndingShape:
    return read_ending(sample)[0]


def write_ending(*parts: object) -> str:
    """The ending with its parts: V, K, both sides of four equalities, the divisor, x, the two of the quotient, x, N."""
    return _TEMPLATE.format(*parts)


def read_ending(text: str) -> tuple[EndingShape, Sequence[str]]:
    """The shape of an ending and its words.

    Raises:
        lark.exceptions.UnexpectedInput: if `trace.lark` does not accept it.
    """
    match = _PARTS.fullmatch(text)
    if match is not None:
        words = cut(_BETWEEN.join(match.groups()))
        shape = _SHAPES.get(tuple(map(KINDS.__getitem__, words)))
        if shape is not None:
            return shape, words
    tree = TRACES.parse(text, "ending")
    words = cut(_BETWEEN.join(join([token.value for token in part]) for part in _parts(tree)))
    shape = _build(tree, words)
    if len(_SHAPES) >= _LIMIT:
        _SHAPES.clear()
    _SHAPES[tuple(map(KINDS.__getitem__, words))] = shape
    return shape, words


def _parts(tree: Tree) -> list[list[Token]]:
    """The tokens of each part that `write_ending` takes."""
    parts = []
    for child in tree.children:
        if isinstance(child, Token):
            parts.append([child])
        elif child.data == "equality":
            parts.extend(map(tokens_of, child.children))
        else:
            parts.append(tokens_of(child))
    return parts


def _build(tree: Tree, words: list[str]) -> EndingShape:
    places = [i for i, word in enumerate(words) if KINDS[word] in VALUE_KINDS]
    equalities, at = [], 2
    for child in tree.children:
        if isinstance(child, Tree) and child.data == "equality":
            left = read_side(tokens_of(child.children[0]), at)
            right = read_side(tokens_of(child.children[1]), left.last)
            equalities.append((left, right))
            at = right.last
    return EndingShape(itemgetter(*places), tuple(equalities), _written(words))
