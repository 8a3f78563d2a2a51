"""The tail of a solution in reverse, "We know V = K, so we have E = K ... Solution: x = N.": is every line of it true?"""

from typing import TYPE_CHECKING

from grammar.checking.faults import show
from grammar.checking.letter_values import NAN, Numbers
from grammar.problem.linear import Linear, X, decode, encode, in_bounds
from grammar.reading.trace import StepError, Tail

if TYPE_CHECKING:
    from grammar.checking.verify import _Checker


def tail_faults(checker: "_Checker") -> None:
    """Notes what is false in the tail, or that it is there in forward mode or missing in reverse."""
    tail, book = checker.trace.tail, checker.book
    if tail is None:
        at = checker.trace.length
        checker.errors.append(StepError("equation", None, "expected 'We know ...': x is never solved for", at, at))
    elif not book.reverse:
        checker.errors.append(StepError("equation", None, "the problem has no unknown to solve for", tail.start, tail.end))
    else:
        words = tail.shape.values(tail.words)
        key = (checker.meanings.get(words[0]), checker.trace.answer, tail.shape.text, words[1:])
        if checker.memory is not None and key in checker.memory.tails:
            return
        checker.settle()
        message = _fault(checker, tail)
        if message:
            checker.errors.append(StepError("equation", None, message, tail.start, tail.end))
        elif checker.memory is not None:
            checker.memory.keep_tail(key)


def _fault(checker: "_Checker", tail: Tail) -> str:
    """What is false in the tail; empty where all of it is true."""
    words = tail.shape.values(tail.words)
    numbers = _in_x(words)
    letter, known = words[0], numbers[1]
    book = checker.book
    sides = [(left.run(numbers), right.run(numbers)) for left, right in tail.shape.equalities]
    if not all(in_bounds(number) for pair in sides for number in pair):
        return "an equality is not linear in x"
    if checker.masks.get(letter) != book.facts[book.end].bit or known != book.known:
        return f"we know that {book.end!r} is {book.known}, not that {letter!r} is {words[1]}"
    if sides[0] != (checker.codes[letter], known):
        return f"{letter!r} is {show(checker.codes[letter])}, so the equation is {show(checker.codes[letter])} = {words[1]}"
    equation = decode(sides[0][0] - known)
    for left, right in sides[1:]:
        if not _same(equation, decode(left - right)):
            return f"{show(left)} = {show(right)} does not follow from {show(sides[0][0])} = {words[1]}"
    *_, divisor, _, dividend, by, _, solution = numbers
    isolated = (divisor * X, dividend)
    if sides[3] != isolated or by != divisor or solution * divisor != dividend or words[-5] != "x" or words[-2] != "x":
        return f"{show(sides[3][0])} = {show(sides[3][1])} is not solved by x = {words[-4]} / {words[-3]} = {words[-1]}"
    return "" if solution == checker.trace.answer else f"the solution is {words[-1]}, the answer another"


def _in_x(words: tuple[str, ...]) -> list[float]:
    """The numbers that words stand for where x is the only letter."""
    numbers = Numbers()
    numbers["x"] = X
    return [NAN if word.isalpha() and word != "x" else numbers[word] for word in words]


def _same(a: "int | Linear", b: "int | Linear") -> bool:
    """Whether a = 0 and b = 0 say the same of x."""
    if isinstance(a, int) or isinstance(b, int):
        return encode(a) == encode(b)
    return a.slope * b.constant == b.slope * a.constant
