"""Sentences of problems: each shape is parsed by `problem.lark` once, then known by the words around its names."""

import re
from functools import cache, lru_cache
from typing import NamedTuple

from lark import Lark, Token, Tree

from grammar.problem.names import read_name
from grammar.problem.quantity import Quantity, Rule, Scale

_LIMIT = 4096  # shapes remembered; the published corpus has about 60
_SHAPES: "dict[tuple, SentenceShape]" = {}
_MARKS = re.compile(
    r"((?:^The |(?:, and |, | and | the sum of | the difference between | )the )"
    r"(?:number of |(?=(?:total|average) number of ))"
    r"| equals(?: [0-9]{1,9}(?: plus| times)?(?![\w]))?"
    r"| exists, and its number is greater than 0| is greater than 0)"
)
_NUMBER = 3  # where the constant's mark stands: after "The ", the subject's name


class ProblemSyntaxError(ValueError):
    """A problem that `problem.lark` does not accept."""


class SentenceShape(NamedTuple):
    """What a kind of sentence says: its rule and scale; its names stand between its marks, the subject first."""

    rule: Rule
    scale: Scale | None
    names: int


@cache
def parser(start: str) -> Lark:
    """Plain Lark on `problem.lark`, from one of its rules: "problem", "sentence" or "question"."""
    return Lark.open("problem.lark", rel_to=__file__, parser="lalr", start=start, maybe_placeholders=True)


@lru_cache(maxsize=1 << 13)
def read_sentence(text: str) -> Quantity:
    """The quantity that a sentence, without its full stop, speaks of.

    Raises:
        lark.exceptions.UnexpectedInput: if `problem.lark` does not accept it.
        ValueError: if a name in it is none.
    """
    parts = _MARKS.split(text)
    constant = None
    if len(parts) > _NUMBER and parts[_NUMBER][8:9].isdigit():
        number, _, scale = parts[_NUMBER][8:].partition(" ")
        constant = int(number)
        parts[_NUMBER] = f" equals # {scale}"
    key = tuple(parts[1::2])
    names = tuple(filter(None, parts[::2]))
    shape = _SHAPES.get(key)
    if shape is not None and len(names) == shape.names:
        return Quantity(names[0], shape.rule, names[1:], constant, shape.scale)
    quantity = read_plainly(text)
    if (quantity.name, *quantity.parents) == names and quantity.constant == constant and len(_SHAPES) < _LIMIT:
        _SHAPES[key] = SentenceShape(quantity.rule, quantity.scale, len(names))  # the scan saw what Lark saw
    return quantity


def read_plainly(text: str) -> Quantity:
    """`read_sentence` by Lark alone.

    Raises:
        lark.exceptions.UnexpectedInput: if `problem.lark` does not accept it.
        ValueError: if a name in it is none.
    """
    tree = parser("sentence").parse(text)
    names = tuple(_name(name) for name in _in_order(tree, "name"))
    rule, scale, constant = tree.data.value if isinstance(tree.data, Token) else tree.data, None, None
    if rule == "given":
        constant = int(tree.children[1])
    elif rule == "defined":
        _, number, scale, expression = tree.children
        rule = str(expression.data)
        constant, scale = (int(number), str(scale)) if number is not None else (None, None)
    return Quantity(names[0], rule, names[1:], constant, scale)


def _in_order(tree: Tree, rule: str) -> list[Tree]:
    return [child for child in tree.iter_subtrees_topdown() if child.data == rule]


def _name(tree: Tree) -> str:
    return " ".join(tree.children[0].split())


@lru_cache(maxsize=1 << 14)
def read_question(text: str) -> str:
    """The name that a question asks for.

    Raises:
        lark.exceptions.UnexpectedInput: if `problem.lark` does not accept it.
        ValueError: if the name in it is none.
    """
    tree = parser("question").parse(text)
    name = f"{tree.children[0]} in {tree.children[1]}" if tree.data == "placed" else str(tree.children[0])
    return read_name(name).text
