"""A statement form that the plain language does not have: "the number of A equals the larger of B and C"."""

from pathlib import Path

from grammar.problem.forms import StatementForm
from grammar.problem.linear import MAX_VALUE, NAN


class Larger(StatementForm):
    """The larger of two numbers; the first if they are equal.

    A gold step names both and says by how much they differ: the larger is the smaller plus that,
    "I = B - C = 7 - 5 = 2; so A = C + I = 5 + 2 = 7". So its parents are {B, C}, its formula is B, and the trace grammar
    needs no new rule. It is not linear in x.
    """

    name, skills, words = "larger", ("larger of 2",), "the larger of {0} and {1}"
    grammar = (Path(__file__).parent / "larger.lark").read_text(encoding="utf-8")
    most = 2
    chance = 0.5

    def compute(self, values, constant):
        plain = all(isinstance(value, int) and abs(value) <= MAX_VALUE for value in values)
        return max(values) if plain else NAN

    def formula(self, points, codes, constant):
        return points[codes[0] < codes[1]]

    def operands(self, terms):
        larger, smaller = terms if terms[0][1] >= terms[1][1] else terms[::-1]
        return "so ", "+", [smaller, ("-", larger, smaller)]

    def joined(self, sign, a, b):
        told = (sign, a[0], b[0]) == ("+", "copy", "difference") and a[1][0] in b[1]
        return b[1] if told else None
