"""The ending of a solution in reverse, "We know V = K, so we have E = K ... Solution: x = N.": is every line of it true?"""

from collections.abc import Sequence

from grammar.checking.letter_values import Numbers, show
from grammar.problem.linear import NAN, Linear, X, decode, encode, in_bounds
from grammar.reading.trace import ReverseEnding


def equation_fault(ending: ReverseEnding, form: float, known: int | None, answer: int | None) -> str:
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
    if sides[0] != (form, known):
        return f"{words[0]!r} is {show(form)}, so the equation is {show(form)} = {words[1]}"
    equation = decode(form - known)
    for left, right in sides[1:]:
        if not _same(equation, decode(left - right)):
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
