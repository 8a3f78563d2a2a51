"""What exactly is wrong with a chain or a definition that failed; called by verify only then."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from grammar.checking.letter_values import POINT_BOUND, letter_of
from grammar.checking.problem_facts import Fact
from grammar.problem.linear import decode, in_bounds
from grammar.reading.shapes import Chain, Side
from grammar.reading.trace import StepError

if TYPE_CHECKING:
    from grammar.checking.verify import _Checker

Values = tuple[Sequence[str], Sequence[float]]  # the values of a chain, as words and as numbers


def show(number: float) -> str:
    """A computed number as text; "?" for one that is not known or beyond bounds."""
    return str(decode(number)) if in_bounds(number) else "?"


def substituted(a: Side, b: Side, values: Values, *, reverse: bool) -> bool:
    """Whether side b is side a with values for its letters, written as published, or in reverse a bare value in x."""
    words, numbers = values
    if b.plain and reverse and all(letter_of(words[i]) == "x" for i in b.letters):
        return True
    filled = (a.filled if reverse else a.text) % tuple(map(show, numbers[a.first : a.last]))
    return filled.replace(" ", "") == b.text % tuple(words[b.first : b.last])


def chain_faults(checker: "_Checker", index: int, place: int, values: Values, formula: float) -> None:
    """Notes what is wrong with a step's chain: letters not declared, false equalities, substitutions not exact."""
    words, numbers = values
    step = checker.trace.steps[index]
    chain, statement = step.shape.chains[place], step.statements[place]

    def note(kind: str, message: str) -> None:
        checker.errors.append(StepError(kind, index, f"{message}, in {statement.text!r}", statement.start, statement.end))

    strangers = _strangers(checker, chain, words)
    for letter in sorted(strangers):
        note("letters", f"{letter!r} is used before it is declared")
    if formula == formula and not -POINT_BOUND < formula < POINT_BOUND:
        note("arithmetic", "what it is made of is not a polynomial of admitted size")
    modulus = checker.book.modulus
    results = [side.run(numbers) if modulus is None else side.run(numbers) % modulus for side in chain.sides]
    if modulus is not None and not 0 <= chain.sides[-1].run(numbers) < modulus:
        note("arithmetic", f"the result is not reduced modulo {modulus}")
    for side, result in zip(chain.sides, results, strict=True):
        if result == result and not in_bounds(result):
            note("arithmetic", f"{_text(side, words)!r} is not a linear form of admitted size")
        elif result != results[-1] and result == result and results[-1] == results[-1]:  # NAN: unknown, reported before
            note("arithmetic", f"{_text(side, words)!r} is {show(result)}, not {_text(chain.sides[-1], words)!r}")
    for message in _inexact(chain, values, reverse=checker.book.reverse):
        note("arithmetic", message)


def _inexact(chain: Chain, values: Values, *, reverse: bool) -> Iterator[str]:
    """What is wrong with substitutions whose operands are known."""
    words, numbers = values
    for a, b, _ in chain.substitutions:
        operands = numbers[a.first : a.last]
        if all(number == number for number in operands) and not substituted(a, b, values, reverse=reverse):
            filled = (a.filled if reverse else a.text) % tuple(map(show, operands))
            yield f"{_text(b, words)!r} is not {_text(a, words)!r} with values: {filled!r}"


def _strangers(checker: "_Checker", chain: Chain, words: Sequence[str]) -> set[str]:
    """Letters used before they are declared; in reverse the x of a value is none."""
    used = {letter_of(words[i]) for side in chain.sides for i in side.letters}
    made_of_x = any(letter_of(words[i]) == "x" for i in chain.sides[0].letters)
    return used - checker.masks.keys() - ({"x"} if checker.book.reverse and not made_of_x else set())


def _text(side: Side, words: Sequence[str]) -> str:
    return side.text % tuple(words[side.first : side.last])


def node_faults(checker: "_Checker", index: int, fact: Fact, said: tuple[int, float, float]) -> None:
    """Notes how a definition differs from the problem's; `said` is its mask of parents, value and formula."""
    mask, value, formula = said
    names = checker.book.names
    step = checker.trace.steps[index]
    if value != fact.code:
        checker.error("value", index, f"{step.name!r} is {show(fact.code)}, not {show(value)}")
    if mask != fact.parents:
        message = f"{step.name!r} is made of {names(fact.parents)}, not of {names(mask)}"
        checker.error("parents", index, message)
    elif formula == formula and formula != fact.formula and fact.parents:
        checker.error("arithmetic", index, f"the problem computes {step.name!r} otherwise from {names(mask)}")
