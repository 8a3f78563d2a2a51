"""Sentences of problems: each shape is parsed by `problem.lark` once, then known by the keywords around its names."""

import re
from functools import cache, lru_cache

from lark import Token, Tree

from grammar.language.lark_tables import Language
from grammar.problem.forms import extension
from grammar.problem.names import read_name
from grammar.problem.quantity import Quantity, Rule, Scale

_LIMIT = 4096  # shapes remembered; the published corpus has about 60
_NUMBER = "INT"
Shape = tuple[Rule, Scale | None]


class ProblemSyntaxError(ValueError):
    """A problem that `problem.lark` does not accept."""


class ProblemLanguage(Language):
    """`problem.lark` with the registered forms.

    Its cutter finds in a sentence the keywords and the terminals between them. The sequence of keywords and of kinds of
    terminals is the sentence's key: two sentences with one key differ in their names and number alone.

    `sentence` reads the quantity that a sentence states, without its full stop, and `question` the name that a question asks
    for; both raise `lark.exceptions.UnexpectedInput` for what `problem.lark` does not accept, `ValueError` for a bad name.
    """

    def __init__(self, forms: str) -> None:
        super().__init__("problem.lark", forms)
        self.shapes: dict[tuple, Shape] = {}
        self.stop = re.compile(self.regexp("_STOP") + self.blank)
        self._pieces = self.cutter("sentence")
        self.cut = lru_cache(maxsize=1 << 13)(self._cut)
        self.sentence = lru_cache(maxsize=1 << 13)(self._sentence)
        self.question = lru_cache(maxsize=1 << 14)(self._question)

    def _cut(self, text: str) -> tuple[tuple | None, list[str], int | None]:
        """A sentence's key (None if the cutter cannot cut all of it), its names and its number."""
        key, names, constant, at = [], [], None, 0
        for match in iter(self._pieces.scanner(text).match, None):
            kind = match.lastgroup
            if match.end() == at:
                break
            at = match.end()
            key += match[1], kind
            if kind == _NUMBER:
                constant = int(match[kind])
            elif kind is not None:
                names.append(match[kind])
        return tuple(key) if at == len(text) else None, names, constant

    def _sentence(self, text: str) -> Quantity:
        key, names, constant = self.cut(text)
        shape = self.shapes.get(key)
        if shape is not None:
            return Quantity(names[0], shape[0], tuple(names[1:]), constant, shape[1])
        quantity = self.read_plainly(text)
        if self.settles(text, quantity):
            if len(self.shapes) >= _LIMIT:
                self.shapes.clear()
            self.shapes[key] = quantity.rule, quantity.scale
        return quantity

    def settles(self, text: str, quantity: Quantity) -> bool:
        """Whether a sentence's key says all of what it states but the names and the number."""
        key, names, constant = self.cut(text)
        return key is not None and [quantity.name, *quantity.parents] == names and quantity.constant == constant

    def read_plainly(self, text: str) -> Quantity:
        """The quantity that a sentence states, by Lark alone."""
        tree = self.parse(text, "sentence")
        names = tuple(str(name.children[0]) for name in tree.iter_subtrees_topdown() if name.data == "name")
        rule, scale, constant = tree.data.value if isinstance(tree.data, Token) else tree.data, None, None
        if rule == "given":
            constant = int(tree.children[1])
        elif rule == "defined":
            _, number, scale, expression = tree.children
            rule = str(expression.data)
            constant, scale = (int(number), str(scale.data)) if number is not None else (None, None)
        return Quantity(names[0], rule, names[1:], constant, scale)

    def _question(self, text: str) -> str:
        tree: Tree = self.parse(text, "question")
        return read_name(" in ".join(tree.children)).text


_language = cache(ProblemLanguage)


def problems() -> ProblemLanguage:
    """The language of problems, with the forms that are registered now."""
    return _language(extension())
