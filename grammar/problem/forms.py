"""The forms of statements: one class says how a form is computed, written as a sentence, solved in a gold solution, sampled.

`problem.lark` says how a form is read: the alias of its rule there is the form's name, `Quantity.rule`. A further form is a
class with its own lines of grammar, made known by `register`.
"""

from collections.abc import Callable, Sequence
from operator import add, mul, sub
from typing import Any, Literal

from grammar.problem.linear import X
from grammar.problem.names import Name

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {"+": add, "-": sub, "*": mul}
Scale = Literal["plus", "times"]
SCALES: dict[Scale, str] = {"plus": "+", "times": "*"}  # the word before a scaled definition -> its sign in a gold step
Names = tuple[str, ...]
Term = tuple[str, int]  # a letter or a number as written, and its value as an integer code (linear)
Operation = tuple[str, Term, Term]  # a sign between two terms; its result gets a letter


class StatementForm:
    """One way a quantity comes about. Subclasses override what differs from a sum.

    name:     the rule of its quantities, and the alias in `problem.lark`.
    skills:   the skill that computes it; of two, the second is that of three or more parents.
    grammar:  lines that extend `problem.lark`; empty for the forms that are in it.
    words:    what it equals, {0}, {1} for its parents and {constant}.
    fewest, most: numbers of parents.
    scalable: whether "c plus" or "c times" may stand before it.
    stated:   whether a sentence states it; a problem implies its totals.
    ordered:  whether the order of its parents matters.
    sign:     what joins its operands in a gold step.
    joins:    for reading gold steps: the signs between operands of two forms that make it, (sign, form, form).
    chance:   the chance that the sampler draws it in place of a sum of as many operands.
    """

    name = ""
    skills: tuple[str, ...] = ()
    grammar = ""
    words = ""
    fewest: int = 2
    most: float = float("inf")
    scalable = True
    stated = True
    ordered = False
    sign = "+"
    joins: frozenset[tuple[str, str, str]] = frozenset()
    chance = 0.0

    def takes(self, parents: int) -> bool:
        """Whether it may have so many parents."""
        return self.fewest <= parents <= self.most

    def compute(self, values: Sequence[Any], constant: int | None) -> Any:
        """Its value from those of its parents: integer codes (linear) or linear forms (solve); NaN if it is not linear."""
        return sum(values)

    def formula(self, points: Sequence[int], codes: Sequence[int], constant: int | None) -> int:
        """What a gold step comes to if its parents, whose values are `codes`, stand for `points`."""
        found: int = self.compute(points, constant)
        return found

    def sentence(self, subject: Name, phrase: str) -> str:
        """The sentence that states it, without its full stop; `phrase` with the scale before it."""
        return f"The{subject.phrase[3:]} equals {phrase}"

    def phrase(self, refs: list[str], constant: int | None) -> str:
        """What it equals, in words; `refs` refer to its parents."""
        return self.words.format(*refs, constant=constant)

    def skill(self, parents: int) -> str | None:
        """The skill that computes it from so many parents; None for the unknown, which is only named."""
        return self.skills[len(self.skills) > 1 and parents > 2] if self.skills else None

    def operands(self, terms: list[Term]) -> tuple[str, str, Sequence[Term | Operation]]:
        """A gold step: its lead ("so "), its sign, and the operands it joins."""
        return "so ", self.sign, terms

    def joined(self, sign: str, a: tuple[str, Names], b: tuple[str, Names]) -> Names | None:
        """In a gold step: its parents, if it is what `sign` makes of two operands (each a form and its parents), else None."""
        return a[1] + b[1] if (sign, a[0], b[0]) in self.joins else None


class Given(StatementForm):
    """A number: "equals 3"."""

    name, skills, words = "given", ("given",), "{constant}"
    fewest = most = 0
    scalable = False

    def compute(self, values: Sequence[Any], constant: int | None) -> Any:
        """The number."""
        return constant


class Unknown(StatementForm):
    """The unknown of a problem in reverse: "exists, and its number is greater than 0"."""

    name = "unknown"
    fewest = most = 0
    scalable = False

    def compute(self, values: Sequence[Any], constant: int | None) -> Any:
        """It is x."""
        return X

    def sentence(self, subject: Name, phrase: str) -> str:
        """An average does not "exist"."""
        said = "is greater than 0" if subject.kind == "average" else "exists, and its number is greater than 0"
        return f"The{subject.phrase[3:]} {said}"


class Copy(StatementForm):
    """Another quantity: "equals the number of owls"."""

    name, skills, words = "copy", ("copy",), "{0}"
    fewest = most = 1


class Sum(StatementForm):
    """A sum of two or more: "equals the sum of the number of owls, the number of eagles, and the number of crows"."""

    name, skills = "sum", ("sum of 2", "sum of 3 or more")
    joins = frozenset(("+", a, b) for a in ("copy", "sum") for b in ("copy", "sum"))

    def phrase(self, refs: list[str], constant: int | None) -> str:
        """The sum, with commas if there are more than two."""
        return f"the sum of {', '.join(refs[:-1])}{',' if len(refs) > 2 else ''} and {refs[-1]}"


class Difference(StatementForm):
    """A difference: "equals the difference between the number of owls and the number of crows"."""

    name, skills, words = "difference", ("difference",), "the difference between {0} and {1}"
    most = 2
    ordered = True
    sign = "-"
    joins = frozenset({("-", "copy", "copy")})

    def compute(self, values: Sequence[Any], constant: int | None) -> Any:
        """The first less the second."""
        return values[0] - values[1]


class Total(StatementForm):
    """The total over a place, which a problem implies: the sum of what its place holds."""

    name, skills = "total", ("total",)
    fewest = 1
    scalable = stated = False


class Products(StatementForm):
    """A total that counts what averages count: the sum of products of parents taken two by two (count, average, ...)."""

    name, skills = "products", ("product",)
    scalable = stated = False
    joins = frozenset({("*", "copy", "copy"), ("+", "products", "products")})

    def takes(self, parents: int) -> bool:
        """Pairs."""
        return parents >= self.fewest and parents % 2 == 0

    def compute(self, values: Sequence[Any], constant: int | None) -> Any:
        """The sum of products."""
        return sum(map(mul, values[::2], values[1::2]))

    def operands(self, terms: list[Term]) -> tuple[str, str, Sequence[Term | Operation]]:
        """Several products are added up; such a step is published without "so"."""
        if len(terms) == 2:
            return "so ", "*", terms
        return "", "+", [("*", a, b) for a, b in zip(terms[::2], terms[1::2], strict=True)]


FORMS: dict[str, StatementForm] = {}
SKILLS: list[str] = []  # every skill of every form, then that of solving an equation


def register(form: StatementForm) -> None:
    """Makes a form known in this process: its sentences are read, judged, written, and sampled if it has a chance.

    Raises:
        ValueError: if another form has its name.
    """
    if form.name in FORMS:
        raise ValueError(f"form {form.name!r} is registered already; choose another name.")
    FORMS[form.name] = form
    SKILLS.extend(form.skills)


def unregister(form: StatementForm) -> None:
    """Takes a form that was registered last out of the language again."""
    del FORMS[form.name]
    del SKILLS[len(SKILLS) - len(form.skills) :]


def extension() -> str:
    """What registered forms add to `problem.lark`."""
    return "\n".join(form.grammar for form in FORMS.values() if form.grammar)


_form: StatementForm
for _form in (Given(), Copy(), Sum(), Difference()):
    register(_form)
SKILLS.extend(f"constant {scale}" for scale in SCALES)
for _form in (Total(), Products(), Unknown()):
    register(_form)
SKILLS.append("equation")
