"""Steps found without fault, recognised when they come again with other letters: samples of one prompt share most."""

from functools import lru_cache

from grammar.checking.problem_facts import Blueprint
from grammar.reading.trace import Step
from grammar.reading.words import INTEGER, KINDS, NEGATIVE, TERM

_LIMIT = 2048  # entries of one memory; the right steps of a problem are far fewer
_PROBLEMS = 64  # problems remembered


class Memory:
    """What was right in solutions of one problem.

    A letter's meaning is a number from 1 for "defined as this name, stating this value"; anything else that a letter may
    stand for is an object like no other. A step is kept only if nothing but such numbers and its own words decide it.

    steps: key of a step -> the meaning of its letter.   tails: keys of tails.
    """

    def __init__(self, *, reverse: bool) -> None:
        self.reverse = reverse
        self.steps: dict[tuple, int] = {}
        self.tails: set[tuple] = set()
        self._meanings: dict[tuple[str, float], int] = {}

    def meaning(self, name: str, code: float) -> object:
        """What a letter means that was defined as `name` and states `code`."""
        known = self._meanings.get((name, code))
        if known is None:
            if len(self._meanings) >= _LIMIT or code != code:
                return object()
            known = self._meanings[name, code] = len(self._meanings) + 1
        return known

    def keep(self, key: tuple, meaning: object, step: Step) -> None:
        """Remembers a step without fault."""
        if len(self.steps) >= _LIMIT or type(meaning) is not int:
            return
        for part in key[2:]:
            if type(part) is not int and not (type(part) is str and self._lasts(part)):
                return
        if any(KINDS[c.values(step.words)[i]] == TERM for c in step.shape.chains for i in c.sides[0].letters):
            return  # it is made of an x that another solution may not have declared
        self.steps[key] = meaning

    def _lasts(self, word: str) -> bool:
        """Whether a word means the same in every solution: a number, in reverse a term in x; a letter does not."""
        return KINDS[word] in (INTEGER, NEGATIVE) or (self.reverse and KINDS[word] == TERM)

    def keep_tail(self, key: tuple) -> None:
        """Remembers a tail that is true, unless its letter's meaning will not come again."""
        if type(key[0]) is int and len(self.tails) < _LIMIT:
            self.tails.add(key)


@lru_cache(maxsize=_PROBLEMS)
def memory_of(book: Blueprint) -> Memory:
    """The memory of a problem; that of one not seen for long is gone."""
    return Memory(reverse=book.reverse)
