"""The forms of statements: one class says how a form is computed, written as a sentence, solved in a gold solution, sampled.

`problem.lark` says how a form is read: the alias of its rule there is the form's name, `Quantity.rule`. A further form is a
class with its own lines of grammar, made known by `register`.
"""

from collections.abc import Callable, Sequence
from operator import add as plus
from operator import mul, sub
from typing import Protocol

from grammar.problem.linear import X
from grammar.problem.names import Name
from grammar.problem.solve import Form as LinearForm
from grammar.problem.solve import add, unknowns_of

OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": plus, "-": sub, "*": mul}
Term = tuple[str, int]  # a letter or a number as written, and its value as an integer code (linear)


class StepWriter(Protocol):
    """What a form may ask of the writer of gold solutions."""

    def draw(self) -> str:
        """The next free letter."""

    def join(self, sign: str, target: str, a: Term, b: Term) -> Term:
        """Writes one operation; returns its result."""


class StatementForm:
    """One way a quantity comes about. Subclasses override what differs from a sum.

    name:     the rule of its quantities, and the alias in `problem.lark`.
    skills:   the skills it takes (`skill`).
    grammar:  lines that extend `problem.lark`; empty for the forms that are in it.
    fewest, most: numbers of parents.
    scalable: whether "c plus" or "c times" may stand before it.
    stated:   whether a sentence states it; a problem implies its totals.
    ordered:  whether the order of its parents matters.
    by_value: whether the values of its parents decide what a gold step computes (`formula`).
    sign:     what joins its operands in a gold step.
    chance:   the chance that the sampler draws it in place of a sum of as many operands.
    """

    name = ""
    skills: tuple[str, ...] = ()
    grammar = ""
    fewest: int = 2
    most: float = float("inf")
    scalable = True
    stated = True
    ordered = False
    by_value = False
    sign = "+"
    chance = 0.0

    def takes(self, parents: int) -> bool:
        """Whether it may have so many parents."""
        return self.fewest <= parents <= self.most

    def compute(self, values: Sequence[int], constant: int | None) -> float:
        """Its value as an integer code (linear), from those of its parents; NaN if it is not linear in x."""
        return sum(values)

    def formula(self, points: Sequence[int], codes: Sequence[int]) -> float:
        """What a gold step comes to if its parents stand for `points`; `codes` are their values.

        Called only if `by_value`: if the values decide what a gold step computes.
        """
        raise NotImplementedError

    def linear(self, parents: Sequence[LinearForm], constant: int | None) -> LinearForm | None:
        """Its linear form in free quantities, from those of its parents; None if it has none."""
        form: LinearForm = {}
        for parent in parents:
            add(form, parent)
        return form

    def sentence(self, subject: Name, constant: int | None, scale: str | None, refs: list[str]) -> str:
        """The sentence that states it, without its full stop; `refs` refer to its parents."""
        scaled = f"{constant} {scale} " if scale is not None else ""
        return f"The{subject.phrase[3:]} equals {scaled}{self.phrase(refs)}"

    def phrase(self, refs: list[str]) -> str:
        """What stands after "equals", but for the scale."""
        raise NotImplementedError

    def skill(self, parents: int) -> str | None:
        """The skill that computes it from so many parents; None if there is nothing to compute."""
        return self.skills[0]

    def operands(self, writer: StepWriter, terms: list[Term]) -> tuple[str, str, list[Term]]:
        """Prepares a gold step, writing intermediate results: its lead ("so "), its sign, and the operands it joins."""
        return "so ", self.sign, terms


class Given(StatementForm):
    """A number: "equals 3"."""

    name, skills = "given", ("given",)
    fewest = most = 0
    scalable = False

    def compute(self, values: Sequence[int], constant: int | None) -> float:
        """The number."""
        return constant

    def linear(self, parents: Sequence[LinearForm], constant: int | None) -> LinearForm | None:
        """The number."""
        return {"": constant}

    def sentence(self, subject: Name, constant: int | None, scale: str | None, refs: list[str]) -> str:
        """The sentence: "The number of owls equals 3"."""
        return f"The{subject.phrase[3:]} equals {constant}"


class Unknown(StatementForm):
    """The unknown of a problem in reverse: "exists, and its number is greater than 0"."""

    name = "unknown"
    fewest = most = 0
    scalable = False

    def compute(self, values: Sequence[int], constant: int | None) -> float:
        """It is x."""
        return X

    def sentence(self, subject: Name, constant: int | None, scale: str | None, refs: list[str]) -> str:
        """The sentence; it says less of an average."""
        said = "is greater than 0" if subject.kind == "average" else "exists, and its number is greater than 0"
        return f"The{subject.phrase[3:]} {said}"

    def skill(self, parents: int) -> str | None:
        """None: it is only named."""
        return None


class Copy(StatementForm):
    """Another quantity: "equals the number of owls"."""

    name, skills = "copy", ("copy",)
    fewest = most = 1

    def phrase(self, refs: list[str]) -> str:
        """The other."""
        return refs[0]


class Sum(StatementForm):
    """A sum of two or more: "equals the sum of the number of owls, the number of eagles, and the number of crows"."""

    name, skills = "sum", ("sum of 2", "sum of 3 or more")

    def phrase(self, refs: list[str]) -> str:
        """The sum, with commas if there are more than two."""
        return f"the sum of {', '.join(refs[:-1])}{',' if len(refs) > 2 else ''} and {refs[-1]}"

    def skill(self, parents: int) -> str | None:
        """Two operands or more."""
        return self.skills[parents > 2]


class Difference(StatementForm):
    """A difference: "equals the difference between the number of owls and the number of crows"."""

    name, skills = "difference", ("difference",)
    most = 2
    ordered = True
    sign = "-"

    def compute(self, values: Sequence[int], constant: int | None) -> float:
        """The first less the second."""
        return values[0] - values[1]

    def linear(self, parents: Sequence[LinearForm], constant: int | None) -> LinearForm | None:
        """The first less the second."""
        return add(dict(parents[0]), parents[1], -1)

    def phrase(self, refs: list[str]) -> str:
        """The difference."""
        return f"the difference between {refs[0]} and {refs[1]}"


class Total(StatementForm):
    """The total over a place, which a problem implies: the sum of what its place holds."""

    name, skills = "total", ("total",)
    fewest = 1
    scalable = stated = False


class Products(StatementForm):
    """A total that counts what averages count: the sum of products of parents taken two by two (count, average, ...)."""

    name, skills = "products", ("product",)
    scalable = stated = False
    sign = "*"

    def takes(self, parents: int) -> bool:
        """Pairs."""
        return parents >= self.fewest and parents % 2 == 0

    def compute(self, values: Sequence[int], constant: int | None) -> float:
        """The sum of products."""
        return sum(map(mul, values[::2], values[1::2]))

    def linear(self, parents: Sequence[LinearForm], constant: int | None) -> LinearForm | None:
        """The sum of products; None if both factors of one hold free quantities."""
        form: LinearForm = {}
        for a, b in zip(parents[::2], parents[1::2], strict=True):
            number, other = (b, a) if unknowns_of(a) else (a, b)
            if unknowns_of(number):
                return None
            add(form, other, number.get("", 0))
        return form

    def operands(self, writer: StepWriter, terms: list[Term]) -> tuple[str, str, list[Term]]:
        """Several products, each in a letter of its own, are added up; their step is published without "so"."""
        if len(terms) == 2:
            return "so ", "*", terms
        return "", "+", [writer.join("*", writer.draw(), a, b) for a, b in zip(terms[::2], terms[1::2], strict=True)]


class Scale:
    """The constant before a definition: "c plus ..." or "c times ...".

    Args:
        name: its word.
        sign: its sign in a gold step.
    """

    def __init__(self, name: str, sign: str) -> None:
        self.name, self.sign = name, sign
        self.skill = f"constant {name}"
        self.compute = OPERATIONS[sign]  # of the constant and a value

    def linear(self, form: LinearForm, constant: int) -> LinearForm:
        """A linear form, scaled."""
        if self.sign == "+":
            return add({"": constant}, form)
        return {name: factor * constant for name, factor in form.items()}


FORMS: dict[str, StatementForm] = {}
SCALES = {"plus": Scale("plus", "+"), "times": Scale("times", "*")}
SKILLS: list[str] = []  # every skill of every form, then that of solving an equation
_extension = ""


def register(form: StatementForm) -> None:
    """Makes a form known: its sentences are read, judged, written, and sampled if it has a chance.

    Raises:
        ValueError: if another form has its name.
    """
    if form.name in FORMS:
        raise ValueError(f"form {form.name!r} is registered already; choose another name.")
    FORMS[form.name] = form
    SKILLS.extend(skill for skill in form.skills if skill not in SKILLS)
    _extend()


def unregister(form: StatementForm) -> None:
    """Takes a registered form out of the language again; none of the plain forms."""
    del FORMS[form.name]
    for skill in form.skills:
        SKILLS.remove(skill)
    _extend()


def extension() -> str:
    """What registered forms add to `problem.lark`."""
    return _extension


def _extend() -> None:
    global _extension
    _extension = "\n".join(form.grammar for form in FORMS.values() if form.grammar)


for _form in (Given(), Copy(), Sum(), Difference()):
    register(_form)
SKILLS.extend(scale.skill for scale in SCALES.values())
for _form in (Total(), Products(), Unknown()):
    register(_form)
SKILLS.append("equation")
