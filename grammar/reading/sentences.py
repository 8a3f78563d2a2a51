"""Sentences of problems: each shape is parsed by `problem.lark` once, then known by the keywords around its names."""

import re
from functools import cache, lru_cache

from grammar.language.lark_tables import Language
from grammar.problem.forms import SCALES, Scale, extension
from grammar.problem.names import read_name
from grammar.problem.quantity import Quantity, Rule

_LIMIT = 4096  # shapes remembered; the published corpus has about 60
_NUMBER = "INT"
Shape = tuple[Rule, Scale | None]
Key = tuple[str | None, ...]


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
        self.shapes: dict[Key | None, Shape] = {}
        self.stop = re.compile(self.regexp("_STOP") + self.blank)
        self._pieces = self.cutter("sentence")
        self.cut = lru_cache(maxsize=1 << 13)(self._cut)
        self.sentence = lru_cache(maxsize=1 << 13)(self._sentence)
        self.question = lru_cache(maxsize=1 << 14)(self._question)

    def _cut(self, text: str) -> tuple[Key | None, list[str], int | None]:
        """A sentence's key (None if the cutter cannot cut all of it), its names and its number."""
        key: list[str | None] = []
        names, constant, at = [], None, 0
        while (match := self._pieces.match(text, at)) and match.end() > at:
            kind, at = match.lastgroup, match.end()
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
        rule, constant = str(tree.data), None
        scale: Scale | None = None
        if rule == "given":
            constant = int(str(tree.children[1]))
        elif rule == "defined":
            _, number, scaled, expression = tree.children
            rule = str(expression.data)
            if number is not None:
                constant, scale = int(str(number)), next(word for word in SCALES if word == scaled.data)
        return Quantity(names[0], rule, names[1:], constant, scale)

    def _question(self, text: str) -> str:
        return read_name(" in ".join(map(str, self.parse(text, "question").children))).text


_language = cache(ProblemLanguage)


def problems() -> ProblemLanguage:
    """The language of problems, with the forms that are registered now."""
    return _language(extension())
