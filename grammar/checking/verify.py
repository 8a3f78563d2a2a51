"""What is true of a solution: (Trace, Graph) -> Report. Facts only; graders and rewards read them.

The problem is the authority. Each chain of equalities is computed exactly (integers; in reverse linear forms in x, which
`linear` keeps as integers), and its first side, which says what a quantity is made of, is compared with the problem's
definition. A step without fault costs one pass over its values; only at a fault does `faults` look closer and say why.
"""

from collections.abc import Sequence
from itertools import count

from grammar.checking.equation import tail_faults
from grammar.checking.faults import chain_faults, node_faults, substituted
from grammar.checking.letter_values import NAN, POINT_BOUND, Numbers, letter_of
from grammar.checking.memory import memory_of
from grammar.checking.problem_facts import Blueprint, Fact
from grammar.checking.report import NodeVerdict, Report
from grammar.problem.graph import Graph
from grammar.problem.linear import MAX_VALUE, X, in_bounds
from grammar.reading.shapes import Chain
from grammar.reading.trace import Step, StepError, Trace

_STRAY_BIT = 4096  # masks of names that are in no problem begin here
_STRAY_POINT = 0x1F35_A7BD_3B9D
_RIGHT = (True, True)
_STATUS = {(True, True): "correct", (False, True): "wrong_value", (True, False): "wrong_parents"}


def verify(trace: Trace, graph: Graph) -> Report:
    """Checks a solution against its problem.

    Args:
        trace: the solution.
        graph: the problem; one that determines no answer has no correct solution.

    Returns:
        Facts about every quantity, step and equality; see `Report`.
    """
    book = graph.blueprint
    checker = _Checker(trace, book)
    for index, step in enumerate(trace.steps):
        checker.step(index, step)
    errors, found = checker.errors, checker.found
    right = book.answer is not None and trace.answer == book.answer
    if trace.tail is not None or book.reverse:
        tail_faults(checker)
    if not right and trace.answer is not None:
        errors.append(_answer_error(trace, book))
    if not errors and found.keys() >= book.gold_names:
        return Report(trace.answer, right, book.perfect, 1.0, (), trace)
    nodes = []
    for name in book.gold:
        status = _STATUS.get(found[name], "wrong_both") if name in found else "missing"
        nodes.append(NodeVerdict(name, status))
        if status == "missing":
            errors.append(StepError("missing", None, f"{name!r} is never defined", trace.length, trace.length))
    correct = sum(node.status == "correct" for node in nodes)
    accuracy = correct / len(nodes) if nodes else 0.0
    return Report(trace.answer, right, tuple(nodes), accuracy, tuple(errors), trace)


def _answer_error(trace: Trace, book: Blueprint) -> StepError:
    expected = "the problem determines no answer" if book.answer is None else f"the answer is {book.answer}"
    return StepError("answer", None, f"{trace.answer} is wrong: {expected}", trace.length, trace.length)


class _Checker:
    """Goes through the steps of one trace, knowing what each letter stands for so far.

    codes:  letter -> the value stated for it, as an integer code.
    points: letter -> what it comes to at the blueprint's points.
    masks:  letter -> the mask of names that it is made of; its keys are the letters declared.
    meanings: letter -> a number that stands for a name and the value stated for it; see `Memory`.
    recalled: steps recognised whose letters are in `meanings` alone so far.
    found:  name -> whether its last definition has the right value and the right parents.
    """

    def __init__(self, trace: Trace, book: Blueprint) -> None:
        self.trace = trace
        self.book = book
        self.errors: list[StepError] = list(trace.errors)
        self.codes, self.points = Numbers(), Numbers()
        self.masks: dict[str, int] = {}
        self.memory = memory_of(book) if book.used else None  # worth its while from the second solution on
        book.used = True
        self.meanings: dict[str, object] = {}
        self.recalled: list[int] = []
        self.trusted = False  # whether steps are gone through again that were found right
        self.found: dict[str, tuple[bool, bool]] = {}
        if book.reverse:
            self.codes["x"] = X

    def error(self, kind: str, index: int, message: str) -> None:
        """Notes an error of a whole step."""
        step = self.trace.steps[index]
        self.errors.append(StepError(kind, index, message, step.start, step.end))

    def step(self, index: int, step: Step) -> None:
        """Checks one step, or recognises it as one found without fault before."""
        shape = step.shape
        if self.memory is None or shape is None or step.letter in self.meanings or step.name in self.found:
            self.settle()
            return self.check(index, step)
        if not shape.chains:
            return self.check(index, step)  # it needs no other letter
        key, steps = self.key(step), self.memory.steps
        meaning = steps.get(key)
        if meaning is not None:
            self.meanings[step.letter] = meaning
            for place in shape.inner:
                self.meanings[step.words[place]] = object()
            self.found[step.name] = _RIGHT
            return self.recalled.append(index)
        faults = len(self.errors)
        self.settle()
        self.check(index, step)
        if len(self.errors) == faults and key is not None:
            self.memory.keep(key, self.meanings[step.letter], step)
        return None

    def key(self, step: Step) -> tuple | None:
        """What decides whether a step is right: its name, its text but for letters, and what its letters mean.

        Letters that it defines itself are told apart by their place. None where only a full check will do.
        """
        shape, words, meanings, letter = step.shape, step.words, self.meanings, step.letter
        if words[shape.final] != letter or (letter == "x" and self.book.reverse):
            return None
        values = shape.values(words)
        meanings[letter] = 0
        if not shape.inner:
            key = (step.name, shape.text, *map(meanings.get, values, values))
            del meanings[letter]
            return key
        own = [words[place] for place in shape.inner]
        fresh = len(set(own)) == len(own) and meanings.keys().isdisjoint(own) and not (self.book.reverse and "x" in own)
        key = None
        if fresh:
            meanings.update(zip(own, count(-1, -1), strict=False))
            key = (step.name, shape.text, *map(meanings.get, values, values))
            for inner in own:
                del meanings[inner]
        del meanings[letter]
        return key

    def settle(self) -> None:
        """Goes through recognised steps again, for a step that has to know what their letters stand for."""
        recalled, self.recalled = self.recalled, []
        self.trusted = True
        for index in recalled:
            step = self.trace.steps[index]
            del self.found[step.name]
            self.check(index, step)
        self.trusted = False

    def fact(self, index: int, name: str) -> Fact:
        """What the problem says of a name; a stray fact and an error where it says nothing."""
        fact = self.book.facts.get(name) or self.book.total(name)
        return self.stray(index, name) if fact is None or fact.code is None else fact

    def check(self, index: int, step: Step) -> None:
        """Checks one step and declares its letter."""
        name, letter, shape = step.name, step.letter, step.shape
        fact = self.fact(index, name)
        if letter in self.masks:
            self.error("letters", index, f"{letter!r} already stands for something else; take a new letter")
        if name in self.found:
            self.error("letters", index, f"{name!r} is defined a second time")
        if shape is None:
            self.declare(letter, fact, NAN)
            self.found[name] = (False, False)
        elif not shape.chains:
            self.unknown(index, step, fact)
        else:
            mask, value, formula = self.chains(index, step, fact)
            self.declare(letter, fact, value)
            self.found[name] = verdict = (value == fact.code, mask == fact.parents)
            if fact.code is not None and (verdict != _RIGHT or formula != fact.formula):
                node_faults(self, index, fact, (mask, value, formula))
        if self.memory is not None:
            self.meanings[letter] = object() if fact.code is None else self.memory.meaning(name, self.codes[letter])

    def stray(self, index: int, name: str) -> Fact:
        """A fact for a name of which the problem says nothing."""
        self.error("ungrounded", index, f"the problem does not say what {name!r} is")
        count = len(self.masks) + 1
        return Fact(None, 1 << (_STRAY_BIT + count), 0, _STRAY_POINT * count, None)

    def declare(self, letter: str, fact: Fact, value: float) -> None:
        """Lets a letter stand for a name."""
        self.masks[letter], self.points[letter] = fact.bit, fact.point
        if not (self.book.reverse and letter == "x"):
            self.codes[letter] = value

    def unknown(self, index: int, step: Step, fact: Fact) -> None:
        """Checks a step that leaves a value open."""
        self.found[step.name] = (self.book.reverse and fact.code == X, not fact.parents)
        if not (self.book.reverse and fact.code == X and not fact.parents):
            self.error("value", index, f"the problem does not leave {step.name!r} open")
        elif step.letter != "x":
            self.error("letters", index, f"the unknown is called x, not {step.letter!r}")
        self.declare(step.letter, fact, X if self.book.reverse else NAN)

    def chains(self, index: int, step: Step, fact: Fact) -> tuple[int, float, float]:
        """Checks the chains of a step; returns what the last one for its letter says: parents, value, formula."""
        says: tuple[int, float, float] | None = None
        for place, chain in enumerate(step.shape.chains):
            target = step.words[chain.target]
            said = self.chain(index, step, place, chain)
            if target == step.letter:
                if says is not None:
                    self.error("letters", index, f"{target!r} is computed a second time")
                says = said
                self.declare(target, fact, said[1])
                continue
            if target in self.masks or (self.book.reverse and target == "x"):
                self.error("letters", index, f"{target!r} already stands for something else; take a new letter")
            self.masks[target], value, self.points[target] = said
            self.meanings[target] = object()  # like nothing else
            if not (self.book.reverse and target == "x"):
                self.codes[target] = value
        if says is None:
            self.error("syntax", index, f"expected a chain '{step.letter} = ...'; the step never computes its letter")
            return 0, NAN, NAN
        return says

    def chain(self, index: int, step: Step, place: int, chain: Chain) -> tuple[int, float, float]:
        """Checks one chain; returns what it says of its letter: parents, value, formula."""
        values = chain.values(step.words)
        numbers = list(map(self.codes.__getitem__, values))
        sides = chain.sides
        first, last = sides[0], sides[-1]
        value = last.run(numbers)
        formula = first.run(list(map(self.points.__getitem__, values[: first.last])))
        mask = 0
        for i in first.letters:
            mask |= self.masks.get(letter_of(values[i]), 0)
        bounded = -POINT_BOUND < formula < POINT_BOUND  # NAN is not
        if not bounded or not (self.trusted or self.fine(chain, values, numbers, value)):
            chain_faults(self, index, place, (values, numbers), formula)
            value, formula = (value if in_bounds(value) else NAN), (formula if bounded else NAN)
        stated = self.states(chain, values)
        if not (stated and sides[-1].plain):
            said = step.statements[place]
            message = f"{said.text!r} ends without a plain value"
            self.errors.append(StepError("arithmetic", index, message, said.start, said.end))
            value = value if stated else NAN
        return mask, value, formula

    def states(self, chain: Chain, values: Sequence[str]) -> bool:
        """Whether the last side is a value: free of letters but the unknown."""
        letters = chain.sides[-1].letters
        return not letters or (self.book.reverse and all(letter_of(values[i]) == "x" for i in letters))

    def fine(self, chain: Chain, values: Sequence[str], numbers: Sequence[float], value: float) -> bool:
        """Whether every equality of a chain is true and every substitution is exact."""
        modulus = self.book.modulus
        for side in chain.earlier:
            number = side.run(numbers)
            if (number if modulus is None else number % modulus) != value:
                return False
        if not (-MAX_VALUE <= value <= MAX_VALUE or in_bounds(value)) or (modulus is not None and not 0 <= value < modulus):
            return False
        for a, b, alike in chain.substitutions:
            if alike and numbers[a.first : a.last] == numbers[b.first : b.last]:
                continue
            if not substituted(a, b, (values, numbers), reverse=self.book.reverse):
                return False
        return True
