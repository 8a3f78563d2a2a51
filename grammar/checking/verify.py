"""What is true of a solution: (Trace, Graph) -> Report. Facts only; graders and rewards read them.

The problem is the authority. Each chain of equalities is computed exactly (integers; in reverse linear forms in x, which
`linear` keeps as integers), and its first side, which says what a quantity is made of, is compared with the problem's
definition. A correct step costs one pass over its values; a wrong one is examined again, to say why it is wrong.
"""

from collections.abc import Sequence
from functools import lru_cache

from grammar.checking.problem_facts import STRAY_BIT, Fact, ProblemFacts, facts_of, point
from grammar.checking.report import NodeVerdict, Report, Status
from grammar.problem.graph import Graph
from grammar.problem.linear import MAX_VALUE, NAN, Linear, X, decode, encode, in_bounds
from grammar.reading.shapes import INTEGER, KINDS, NEGATIVE, TERM, Chain, Side
from grammar.reading.trace import ErrorKind, ReverseEnding, Statement, Step, StepError, Trace

QUOTED = 200  # characters of a response that a message repeats
POINT_BOUND = 1 << 480  # keeps formulas of hostile text finite; a product of two stays within a float beside NAN


class Numbers(dict[str, float]):
    """Letter -> number; integers are read as themselves, "2*x" as twice what x stands for, unknown letters as NAN."""

    def __missing__(self, word: str) -> float:
        kind = KINDS[word]
        if kind in (INTEGER, NEGATIVE):
            value = self[word] = int(word)
            return value
        if kind == TERM:
            return coefficient(word) * self["x"]
        return NAN


@lru_cache(maxsize=4096)
def coefficient(term: str) -> int:
    """The factor of x in a term such as 2*x, -2*x or -x."""
    return -1 if term == "-x" else int(term.partition("*")[0])


def letter_of(word: str) -> str:
    """The letter that a variable is, or a term in x holds."""
    return "x" if len(word) > 1 and word[-2] in "*-" else word


def show(number: float) -> str:
    """A computed number as text; "?" for one that is not known or beyond bounds."""
    return str(decode(number)) if in_bounds(number) else "?"


def filled(side: Side, numbers: Sequence[float], *, reverse: bool) -> str:
    """A side as published once values stand for its letters, without blanks; `numbers` are those of its chain."""
    return ((side.filled if reverse else side.text) % tuple(map(show, numbers[side.first : side.last]))).replace(" ", "")


def bare(side: str) -> str:
    """A side without parentheses: the values put in, in their order. Whether parentheses are missing, its number tells."""
    return side.replace("(", "").replace(")", "")


def written(side: Side, words: Sequence[str]) -> str:
    """A side as it is, without blanks; `words` are those of its chain."""
    return side.text % tuple(words[side.first : side.last])


def quoted(text: str) -> str:
    """A text in quotation marks, its middle left out if it is long: a response may have as many errors as words."""
    return repr(text if len(text) <= QUOTED else f"{text[: QUOTED // 2]} ... {text[-QUOTED // 2 :]}")


_RIGHT = (True, True)
_STATUS: dict[tuple[bool, bool], Status] = {(True, True): "correct", (False, True): "wrong_value", (True, False): "wrong_parents"}

Values = tuple[Sequence[str], Sequence[float]]  # the values of a chain, as words and as numbers
Said = tuple[int, float, float]  # what a chain says of its letter: the mask of its parents, its value, its formula


def verify(trace: Trace, graph: Graph) -> Report:
    """Checks a solution against its problem.

    Args:
        trace: the solution.
        graph: the problem; one that determines no answer has no correct solution.

    Returns:
        Facts about every quantity, step and equality; see `Report`.
    """
    if isinstance(trace, str):
        raise TypeError("verify: a text is no trace; read it first: verify(parse_response(text), graph).")
    facts = facts_of(graph)
    checker = _Checker(trace, facts)
    for index, step in enumerate(trace.steps):
        checker.step(index, step)
    errors, found = checker.errors, checker.found
    right = facts.answer is not None and trace.answer == facts.answer
    if trace.ending is not None or facts.reverse:
        checker.ending(trace.ending)
    if not right and trace.answer is not None:
        expected = "the problem determines no answer" if facts.answer is None else f"the answer is {facts.answer}"
        errors.append(StepError("answer", None, f"{trace.answer} is wrong: {expected}", trace.length, trace.length))
    if facts.unsolvable:
        errors.append(StepError("missing", None, "the answer follows from no equation in it alone", trace.length, trace.length))
    if not errors and found.keys() >= facts.gold_names:
        return Report(trace.answer, right, facts.perfect, 1.0, (), trace, facts.computed)
    nodes = []
    for name in facts.gold:
        status: Status = _STATUS.get(found[name], "wrong_both") if name in found else "missing"
        nodes.append(NodeVerdict(name, status))
        if status == "missing":
            errors.append(StepError("missing", None, f"{name!r} is never defined", trace.length, trace.length))
    correct = sum(node.status == "correct" for node in nodes)
    accuracy = correct / len(nodes) if nodes else 0.0
    return Report(trace.answer, right, tuple(nodes), accuracy, tuple(errors), trace, facts.computed)


class _Checker:
    """Goes through the steps of one trace, knowing what each letter stands for so far.

    codes:  letter -> the value stated for it, as an integer code.
    points: letter -> what it comes to at the points of the problem's facts.
    masks:  letter -> the mask of names that it is made of; its keys are the letters declared.
    found:  name -> whether its last definition has the right value and the right parents.
    """

    def __init__(self, trace: Trace, facts: ProblemFacts) -> None:
        self.trace, self.facts = trace, facts
        self.reverse, self.modulus = facts.reverse, facts.modulus
        self.errors: list[StepError] = list(trace.errors)
        self.codes, self.points = Numbers(), Numbers()
        self.masks: dict[str, int] = {}
        self.found: dict[str, tuple[bool, bool]] = {}
        self.spelt: tuple[int, Sequence[Statement]] = -1, ()
        if facts.reverse:
            self.codes["x"] = X

    def statement(self, index: int, place: int) -> Statement:
        """A chain of a step as text; those of one step are found together."""
        if self.spelt[0] != index:
            self.spelt = index, self.trace.steps[index].statements
        return self.spelt[1][place]

    def error(self, kind: ErrorKind, index: int, message: str) -> None:
        step = self.trace.steps[index]
        self.errors.append(StepError(kind, index, message, step.start, step.end))

    def step(self, index: int, step: Step) -> None:
        """Checks one step and declares its letter."""
        name, letter, shape = step.name, step.letter, step.shape
        fact = self.facts.fact(name)
        if fact is None:
            self.error("ungrounded", index, f"the problem does not say what {quoted(name)} is")
            fact = Fact(None, STRAY_BIT, 0, point(0) * (len(self.masks) + 2), None)
        if letter in self.masks:
            self.error("letters", index, f"{letter!r} already stands for something else; take a new letter")
        if name in self.found:
            self.error("letters", index, f"{quoted(name)} is defined a second time")
        if shape is None:
            self.declare(letter, fact, NAN)
            self.found[name] = (False, False)
        elif not shape.chains:
            self.unknown(index, step, fact)
        else:
            said = mask, value, formula = self.chains(index, step, shape.chains, fact)
            self.declare(letter, fact, value)
            self.found[name] = verdict = (value == fact.code, mask == fact.parents)
            if fact.code is not None and (verdict != _RIGHT or formula != fact.formula):
                self.explain_definition(index, fact, said)

    def declare(self, letter: str, fact: Fact, value: float) -> None:
        self.masks[letter], self.points[letter] = fact.bit, fact.point
        if not (self.reverse and letter == "x"):
            self.codes[letter] = value

    def unknown(self, index: int, step: Step, fact: Fact) -> None:
        """Checks a step that leaves a value open."""
        self.found[step.name] = (self.reverse and fact.code == X, not fact.parents)
        if self.found[step.name] != _RIGHT:
            self.error("value", index, f"the problem does not leave {quoted(step.name)} open")
        elif step.letter != "x":
            self.error("letters", index, f"the unknown is called x, not {step.letter!r}")
        self.declare(step.letter, fact, X if self.reverse else NAN)

    def chains(self, index: int, step: Step, chains: Sequence[Chain], fact: Fact) -> Said:
        """Checks the chains of a step; returns what the last one for its letter says."""
        says: Said | None = None
        for place, chain in enumerate(chains):
            target = step.words[chain.target]
            said = self.chain(index, step, place, chain)
            if target == step.letter:
                if says is not None:
                    self.error("letters", index, f"{target!r} is computed a second time")
                says = said
                self.declare(target, fact, said[1])
                continue
            if target in self.masks or (self.reverse and target == "x"):
                self.error("letters", index, f"{target!r} already stands for something else; take a new letter")
            self.masks[target], value, self.points[target] = said
            if not (self.reverse and target == "x"):
                self.codes[target] = value
        if says is None:
            self.error("syntax", index, f"expected a chain '{step.letter} = ...'; the step never computes its letter")
            return 0, NAN, NAN
        return says

    def chain(self, index: int, step: Step, place: int, chain: Chain) -> Said:
        """Checks one chain; returns what it says of its letter."""
        values = chain.values(step.words)
        numbers = list(map(self.codes.__getitem__, values))
        first, last = chain.sides[0], chain.sides[-1]
        value = last.run(numbers)
        formula = first.run(list(map(self.points.__getitem__, values[: first.last])))
        mask = 0
        for i in first.letters:
            mask |= self.masks.get(letter_of(values[i]), 0)
        bounded = -POINT_BOUND < formula < POINT_BOUND  # NAN is not
        if not bounded or not self.fine(chain, values, numbers, value):
            self.explain_chain(index, place, chain, (values, numbers), formula)
            value, formula = (value if in_bounds(value) else NAN), (formula if bounded else NAN)
        stated = not last.letters or (self.reverse and all(letter_of(values[i]) == "x" for i in last.letters))
        if not (stated and last.plain):
            said = self.statement(index, place)
            message = f"{quoted(said.text)} ends without a plain value"
            self.errors.append(StepError("arithmetic", index, message, said.start, said.end))
            value = value if stated else NAN
        return mask, value, formula

    def fine(self, chain: Chain, values: Sequence[str], numbers: Sequence[float], value: float) -> bool:
        """Whether every equality of a chain is true and every substitution is exact."""
        modulus = self.modulus
        for side in chain.earlier:
            number = side.run(numbers)
            if (number if modulus is None else number % modulus) != value:
                return False
        if not (-MAX_VALUE <= value <= MAX_VALUE or in_bounds(value)) or (modulus is not None and not 0 <= value < modulus):
            return False
        for a, b, alike in chain.substitutions:
            if alike and numbers[a.first : a.last] == numbers[b.first : b.last]:
                continue
            if not self.substituted(a, b, (values, numbers)):
                return False
        return True

    def substituted(self, a: Side, b: Side, values: Values) -> bool:
        """Whether side b is side a with values for its letters, in parentheses or not, or in reverse a bare value in x."""
        words, numbers = values
        if b.plain and self.reverse and all(letter_of(words[i]) == "x" for i in b.letters):
            return True
        return bare(filled(a, numbers, reverse=self.reverse)) == bare(written(b, words))

    def ending(self, ending: ReverseEnding | None) -> None:
        """Checks the equation's solution: it is there in reverse only, about what the problem knows, and true."""
        facts, at = self.facts, self.trace.length
        if ending is None:
            self.errors.append(StepError("equation", None, "expected 'We know ...': x is never solved for", at, at))
            return
        letter, known, *_ = ending.shape.values(ending.words)
        if not facts.reverse:
            fault = "the problem has no unknown to solve for"
        elif facts.known is None or self.points.get(letter) != facts.end_point or int(known) != facts.known:
            fault = f"we know that {facts.end!r} is {facts.known}, not that {letter!r} is {known}"
        else:
            fault = equation_fault(ending, self.codes[letter], facts.known, self.trace.answer)
        if fault:
            self.errors.append(StepError("equation", None, fault, ending.start, ending.end))

    def explain_chain(self, index: int, place: int, chain: Chain, values: Values, formula: float) -> None:
        """Notes what is wrong with a step's chain: letters not declared, false equalities, substitutions not exact."""
        words, numbers = values
        statement = self.statement(index, place)
        whole, stated = quoted(statement.text), quoted(written(chain.sides[-1], words))

        def note(kind: ErrorKind, message: str) -> None:
            self.errors.append(StepError(kind, index, f"{message}, in {whole}", statement.start, statement.end))

        for letter in sorted(self.undeclared(chain, words)):
            note("letters", f"{letter!r} is used before it is declared")
        if formula == formula and not -POINT_BOUND < formula < POINT_BOUND:
            note("arithmetic", "what it is made of is not a polynomial of admitted size")
        modulus = self.modulus
        results = [side.run(numbers) if modulus is None else side.run(numbers) % modulus for side in chain.sides]
        if modulus is not None and not 0 <= chain.sides[-1].run(numbers) < modulus:
            note("arithmetic", f"the result is not reduced modulo {modulus}")
        for side, result in zip(chain.sides, results, strict=True):
            if result == result and not in_bounds(result):
                note("arithmetic", f"{quoted(written(side, words))} is not a linear form of admitted size")
            elif result != results[-1] and result == result and results[-1] == results[-1]:  # NAN: unknown, reported before
                note("arithmetic", f"{quoted(written(side, words))} is {show(result)}, not {stated}")
        for a, b, _ in chain.substitutions:
            if all(n == n for n in numbers[a.first : a.last]) and not self.substituted(a, b, values):
                sides = (written(b, words), written(a, words), filled(a, numbers, reverse=self.reverse))
                note("arithmetic", "{} is not {} with values: {}".format(*map(quoted, sides)))

    def undeclared(self, chain: Chain, words: Sequence[str]) -> set[str]:
        """Letters used before they are declared; in reverse the x of a value is none."""
        used = {letter_of(words[i]) for side in chain.sides for i in side.letters}
        made_of_x = any(letter_of(words[i]) == "x" for i in chain.sides[0].letters)
        return used - self.masks.keys() - ({"x"} if self.reverse and not made_of_x else set())

    def explain_definition(self, index: int, fact: Fact, said: Said) -> None:
        """Notes how a definition differs from the problem's."""
        mask, value, formula = said
        names, name = self.facts.names, self.trace.steps[index].name
        if fact.code is not None and value != fact.code:
            self.error("value", index, f"{name!r} is {show(fact.code)}, not {show(value)}")
        if mask != fact.parents:
            self.error("parents", index, f"{name!r} is made of {names(fact.parents)}, not of {names(mask)}")
        elif formula == formula and formula != fact.formula and fact.parents:
            self.error("arithmetic", index, f"the problem computes {name!r} otherwise from {names(mask)}")


def equation_fault(ending: ReverseEnding, form: float, known: int, answer: int | None) -> str:
    """What is false in an ending; empty if all of it is true. Whose letter it names is not judged here.

    Args:
        ending: the ending.
        form:   what its letter V stands for, as an integer code (linear).
        known:  the number K that the problem knows.
        answer: the answer that the solution states.
    """
    words = ending.shape.values(ending.words)
    numbers = _in_x(words)
    sides = [(left.run(numbers), right.run(numbers)) for left, right in ending.shape.equalities]
    if not all(in_bounds(number) for pair in sides for number in pair):
        return "an equality is not linear in x"
    if sides[0] != (form, known) or not in_bounds(form):
        return f"{words[0]!r} is {show(form)}, so the equation is {show(form)} = {words[1]}"
    equation = decode(form - known)
    for left, right in sides[1:]:
        if not _same(equation, decode(int(left - right))):
            return f"{show(left)} = {show(right)} does not follow from {show(form)} = {words[1]}"
    *_, divisor, _, dividend, by, _, solution = numbers
    isolated = (divisor * X, dividend)
    if sides[3] != isolated or by != divisor or solution * divisor != dividend or words[-5] != "x" or words[-2] != "x":
        return f"{show(sides[3][0])} = {show(sides[3][1])} is not solved by x = {words[-4]} / {words[-3]} = {words[-1]}"
    return "" if solution == answer else f"the solution is {words[-1]}, the answer another"


def _in_x(words: Sequence[str]) -> list[float]:
    """The numbers that words stand for if x is the only letter."""
    numbers = Numbers()
    numbers["x"] = X
    return [NAN if word.isalpha() and word != "x" else numbers[word] for word in words]


def _same(a: int | Linear, b: int | Linear) -> bool:
    """Whether a = 0 and b = 0 say the same of x."""
    if isinstance(a, int) or isinstance(b, int):
        return encode(a) == encode(b)
    return a.slope * b.constant == b.slope * a.constant
