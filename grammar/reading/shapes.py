"""Shapes of statements, and of the ending in reverse: each is parsed by `trace.lark` once, then known by its word kinds.

A statement is cut at its blanks, and each word is filed under its kind: variable, number, term in x. Statements of equal kinds
differ only in letters and numbers, so the grammar reads one of them. A shape says which words carry values, which sides its
chains of equalities have, and how to compute each side.
Not here: what letters stand for (verify), how a text is cut into steps (parse).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from operator import itemgetter
from typing import Any

from lark import Token, Tree

from grammar.language.lark_tables import TRACES

UNKNOWN_BODY = TRACES.text("UNKNOWN")
_VALUES = [expansion[0] for expansion in TRACES.rule("atom")]  # the terminals that carry values
VARIABLE, INTEGER, NEGATIVE, TERM = map(_VALUES.index, ("VAR", "INT", "NEG", "TERM"))  # kinds, by their places
VALUE_KINDS = frozenset(range(len(_VALUES)))
_PATTERNS = [re.compile(TRACES.regexp(name)) for name in _VALUES]
_MOST_WORDS = 1 << 16  # words remembered
_LONGEST = 13  # characters of a value: a sign, nine digits and "*x"


class _Kinds(dict[str, int | str]):
    """Word -> kind, remembered; a word that carries no value is its own kind."""

    def __missing__(self, word: str) -> int | str:
        if len(word) > _LONGEST:
            return word
        kind = next((kind for kind, pattern in enumerate(_PATTERNS) if pattern.fullmatch(word)), word)
        if len(self) < _MOST_WORDS:
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


def join(words: Sequence[str]) -> str:
    """The words of a statement back as text, in published spacing."""
    return " ".join(words).replace(" ;", ";").replace("( ", "(").replace(" )", ")")


_LIMIT = 4096  # shapes remembered; the published corpus has about 500
Factor = list[tuple[int, int]]  # signs and places of values added up
_SHAPES: "dict[tuple[int | str, ...], Shape]" = {}


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an equality; places count the values of its chain.

    run:     computes it from the numbers that the chain's values stand for.
    first, last: its values, `last` excluded.
    letters: places of values that stand for quantities: variables, and terms in x.
    plain:   whether it is a bare value, a number or a linear form as published, if its letter is x.
    text:    its text without blanks, %s for each value.
    filled:  `text` as published once values stand for letters in reverse: each in parentheses unless all are added.
    """

    run: Callable[[Sequence[float]], float]
    first: int
    last: int
    letters: tuple[int, ...]
    plain: bool
    text: str
    filled: str


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of equalities, "so C = A + B = 7 + 8 = 15".

    target: place of the variable it defines among the statement's words.
    values: picks the values of its sides out of the statement's words.
    sides:  what follows its equals signs, at least one; `earlier` is all but the last.
    substitutions: pairs of neighbouring sides where the second is to be the first with values for its letters (or a
        bare value in x), and whether they have the same text but for values, the second without letters.
    """

    target: int
    values: Callable[[Sequence[str]], tuple[str, ...]]
    sides: tuple[Side, ...]
    earlier: tuple[Side, ...]
    substitutions: tuple[tuple[Side, Side, bool], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of statement.

    chains: its chains of equalities; none in "we don't know its value yet ...".
    sample: a statement of this kind.
    """

    chains: tuple[Chain, ...]
    sample: str

    def __reduce__(self) -> "tuple[Callable[[str], Shape], tuple[str]]":
        """Pickles as a statement of its kind: what computes its sides does not pickle."""
        return _shape_of, (self.sample,)


def _shape_of(sample: str) -> Shape:
    return read_body(sample)[0]


def read_body(body: str) -> tuple[Shape, Sequence[str]]:
    """The shape of a statement and its words.

    Raises:
        lark.exceptions.UnexpectedInput: if `trace.lark` does not accept it.
    """
    words = cut(body)
    shape = _SHAPES.get(tuple(map(KINDS.__getitem__, words)))
    return (shape, words) if shape is not None else read_plainly(body)


def read_plainly(body: str) -> tuple[Shape, Sequence[str]]:
    """`read_body` by Lark alone; it remembers the shape.

    Raises:
        lark.exceptions.UnexpectedInput: if `trace.lark` does not accept it.
    """
    tree = TRACES.parse(body, "body")
    words = list(_words(tree))
    key = tuple(map(KINDS.__getitem__, words))
    shape = _SHAPES.get(key)
    if shape is None:
        shape = _build(tree, words)
        if len(_SHAPES) >= _LIMIT:
            _SHAPES.clear()
        _SHAPES[key] = shape
    return shape, words


def tokens_of(tree: Tree[Any]) -> list[Token]:
    """The tokens of a tree in reading order."""
    return list(tree.scan_values(lambda value: isinstance(value, Token)))


def _words(tree: Tree[Any]) -> Iterator[str]:
    for number, child in enumerate(tree.children):
        if isinstance(child, Token):
            yield from child.split(" ")
            continue
        if number:
            yield ";"
        lead, variable, *sides = child.children
        if lead is not None:
            yield "so"
        yield str(variable)
        for side in sides:
            yield "="
            yield from (token.value for token in tokens_of(side))


def _build(tree: Tree[Any], words: list[str]) -> Shape:
    places = [i for i, word in enumerate(words) if KINDS[word] in VALUE_KINDS]
    chains, at = [], 0
    for equation in tree.children:
        if isinstance(equation, Token):
            return Shape((), join(words))
        sides: list[Side] = []
        for side in equation.children[2:]:
            sides.append(read_side(tokens_of(side), sides[-1].last if sides else 0))
        pairs = tuple(
            (a, b, a.text == b.text and not b.letters)
            for a, b in pairwise(sides)
            if a.letters and not (b.plain and not b.letters)
        )
        count = sides[-1].last
        chains.append(Chain(places[at], _picker(places[at + 1 : at + 1 + count]), tuple(sides), tuple(sides[:-1]), pairs))
        at += 1 + count
    return Shape(tuple(chains), join(words))


def _picker(places: list[int]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    if len(places) < 2:
        return lambda words: tuple(words[place] for place in places)
    return itemgetter(*places)


def read_side(tokens: list[Token], place: int) -> Side:
    """The side made of these tokens, whose first value stands at `place` in its chain."""
    first, kinds, text = place, [KINDS[token.value] for token in tokens], []
    terms: list[tuple[int, list[Factor]]] = []
    sign, inner_sign, times = 1, 1, False
    group: Factor | None = None  # in parentheses that are open
    for token, kind in zip(tokens, kinds, strict=True):
        text.append("%s" if kind in VALUE_KINDS else token.value)
        factor: Factor | None = None
        if token.type == "SIGN" and group is None:
            sign = 1 if token == "+" else -1
        elif token.type == "SIGN":
            inner_sign = 1 if token == "+" else -1
        elif token.type == "OPEN":
            group, inner_sign = [], 1
        elif token.type == "CLOSE":
            factor, group = group, None
        elif token.type == "TIMES":
            times = True
        else:
            place += 1
            if group is None:
                factor = [(1, place - 1)]
            else:
                group.append((inner_sign, place - 1))
        if factor is not None and times:
            terms[-1][1].append(factor)
            times = False
        elif factor is not None:
            terms.append((sign, [factor]))
    values = [kind for kind in kinds if kind in VALUE_KINDS]
    letters = tuple(first + i for i, kind in enumerate(values) if kind in (VARIABLE, TERM))
    adds = all(kind in VALUE_KINDS or kind in ("+", "(") for kind in kinds)
    filled = text if adds or "(" in text else ["(%s)" if part == "%s" else part for part in text]
    return Side(_runner(terms), first, place, letters, _is_plain(kinds), "".join(text), "".join(filled))


def _is_plain(kinds: list[int | str]) -> bool:
    """Whether the words of a side are a bare value as published: a, x, a*x, x + a, a*x - b, a - x, a - b*x."""
    in_x, number = (VARIABLE, TERM), (INTEGER, NEGATIVE)
    match kinds:
        case [_]:
            return True
        case [first, "+" | "-", last]:
            return (first in in_x and last == INTEGER) or (first in number and kinds[1] == "-" and last in in_x)
    return False


def _runner(terms: list[tuple[int, list[Factor]]]) -> Callable[[Sequence[float]], float]:
    """Computes a sum of terms, the usual forms without loops."""
    flat = [(sign, [factor[0][1] for factor in factors]) for sign, factors in terms]
    if all(len(factor) == 1 and factor[0][0] == 1 for _, factors in terms for factor in factors):
        match flat:
            case [(1, [i])]:
                return itemgetter(i)
            case [(1, [i]), (1, [j])]:
                return lambda v: v[i] + v[j]
            case [(1, [i]), (-1, [j])]:
                return lambda v: v[i] - v[j]
            case [(1, [i, j])]:
                return lambda v: v[i] * v[j]
            case [(1, [i]), (1, [j]), (1, [k])]:
                return lambda v: v[i] + v[j] + v[k]
    return lambda v: sum(sign * prod(sum(s * v[i] for s, i in factor) for factor in factors) for sign, factors in terms)


_ENDINGS: "dict[tuple[int | str, ...], EndingShape]" = {}
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

    def __reduce__(self) -> "tuple[Callable[[str], EndingShape], tuple[str]]":
        """Pickles as an ending of its kind: what computes its sides does not pickle."""
        return _ending_shape_of, (self.sample,)


def join_ending(words: Sequence[str]) -> str:
    """The words of an ending back as text, in published spacing."""
    return write_ending(*join(words).split(_BETWEEN))


def _ending_shape_of(sample: str) -> EndingShape:
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
        shape = _ENDINGS.get(tuple(map(KINDS.__getitem__, words)))
        if shape is not None:
            return shape, words
    tree = TRACES.parse(text, "ending")
    words = cut(_BETWEEN.join(join([token.value for token in part]) for part in _parts(tree)))
    shape = _build_ending(tree, words)
    if len(_ENDINGS) >= _LIMIT:
        _ENDINGS.clear()
    _ENDINGS[tuple(map(KINDS.__getitem__, words))] = shape
    return shape, words


def _parts(tree: Tree[Any]) -> list[list[Token]]:
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


def _build_ending(tree: Tree[Any], words: list[str]) -> EndingShape:
    places = [i for i, word in enumerate(words) if KINDS[word] in VALUE_KINDS]
    equalities, at = [], 2
    for child in tree.children:
        if isinstance(child, Tree) and child.data == "equality":
            left = read_side(tokens_of(child.children[0]), at)
            right = read_side(tokens_of(child.children[1]), left.last)
            equalities.append((left, right))
            at = right.last
    return EndingShape(itemgetter(*places), tuple(equalities), join_ending(words))
