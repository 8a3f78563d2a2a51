"""Solves a generated row from its text alone: own reading of sentences and solutions, sympy for the equation.

It shares no code with the package. Sentences are read by regular expressions, values are sympy expressions in the unknown,
operations are counted as documented: a leaf 1, the unknown 1, each reference 1, a constant 1. A solution is right when its
steps define just what is needed, each after its parents, every formula being the problem's (compared at random numbers),
every side of every chain having one value, each substitution being exact, and the equation's lines following.
"""

import re
from dataclasses import dataclass, field
from random import Random

import sympy

X = sympy.Symbol("x")
PRELUDE = "The question is difficult, so we use equations to solve it. "
REFERENCE = r"(?:number of |(?=total number of |average number of ))"
SUBJECT = re.compile(
    rf"The {REFERENCE}(?P<name>.+?) (?:equals (?P<said>.+)|(?P<open>exists, and its number is|is) greater than 0)"
)
CONSTANT = re.compile(r"(?P<number>\d+)(?: (?P<scale>plus|times) (?P<rest>.+))?")
LIST = re.compile(rf"(?:, and |, | and )the {REFERENCE}")
STEP = re.compile(r"Define (?P<name>[^.;]+) as (?P<letter>[A-Za-z]{1,2}); (?P<body>[^.]+)\. ")
TAIL = re.compile(
    r"We know (?P<letter>\w+) = (?P<known>\d+), so we have (?P<e1>.+?) = (?P<k1>\d+) and we solve it through the following "
    r"steps: Simplifying the equation: (?P<e2>.+?) = (?P<k2>\d+)\. Move all terms to one side: (?P<e3>.+?) = 0\. Isolate the "
    r"term with x: (?P<a>-?\d+)\*x = (?P<b>-?\d+)\. Divide both sides by (?P<by>-?\d+): x = (?P<over>-?\d+) / (?P<under>-?\d+)\. "
    r"Solution: x = (?P<root>\d+)\. "
)


@dataclass
class Definition:
    """`sign` joins the parents; "products" pairs them."""

    sign: str
    parents: list[str]
    constant: int | None = None
    scale: str | None = None
    unknown: bool = False

    def operations(self) -> int:
        return len(self.parents) + (self.constant is not None) + self.unknown

    def value(self, of):
        """What it comes to where parents have the values `of`."""
        if not self.parents:
            return X if self.unknown else self.constant
        values = [of[p] for p in self.parents]
        if self.sign == "products":
            value = sum(a * b for a, b in zip(values[::2], values[1::2], strict=True))
        else:
            value = values[0] - values[1] if self.sign == "-" else sum(values)
        return value if self.scale is None else value + self.constant if self.scale == "plus" else value * self.constant


@dataclass
class Problem:
    definitions: dict[str, Definition] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)  # what is said besides of something defined, or of a total
    question: str = ""
    modulus: int | None = None


def read(problem: str, question: str, modulus: int | None = None) -> Problem:
    found = Problem(modulus=modulus, question=read_question(question))
    mentioned = {found.question: None}
    for sentence in problem.strip().removesuffix(".").split(". "):
        match = SUBJECT.fullmatch(sentence)
        assert match, sentence
        name, definition = match["name"], read_definition(match["said"])
        mentioned |= dict.fromkeys([name, *definition.parents])
        bare = not definition.parents and not definition.unknown
        if bare and (name in found.definitions or name.startswith("total ")):
            found.known[name] = definition.constant
            continue
        if name in found.definitions:
            old = found.definitions[name]
            assert not old.parents and not old.unknown, f"two definitions of {name}"
            found.known[name] = old.constant
        found.definitions[name] = definition
    for name in mentioned:
        if name.startswith("total number of "):
            found.definitions[name] = total(name, mentioned)
    return found


def read_definition(said: str | None) -> Definition:
    if said is None:
        return Definition("+", [], unknown=True)
    constant, scale = None, None
    match = CONSTANT.fullmatch(said)
    if match:
        constant, scale, said = int(match["number"]), match["scale"], match["rest"]
        if said is None:
            return Definition("+", [], constant)
    sign = "-" if said.startswith("the difference between ") else "+"
    several = said.startswith(("the sum of ", "the difference between "))
    said = re.sub(r"^the (?:sum of|difference between) the ", "the ", said)
    parents = LIST.split(re.sub(rf"^the {REFERENCE}", "", said))
    assert (len(parents) > 1) == several and (sign == "+" or len(parents) == 2), said
    return Definition(sign, parents, constant, scale)


def read_question(question: str) -> str:
    for pattern, name in (
        (r"What is the ((?:total|average) number of .+)\?", r"\1"),
        (r"How many (.+) does (.+) have\?", r"\1 in \2"),
        (r"How many (.+) are there\?", r"\1"),
    ):
        if re.fullmatch(pattern, question):
            return re.sub(pattern, name, question)
    raise AssertionError(question)


def total(name: str, mentioned) -> Definition:
    """Everything of the place; with averages of words that the total has, counts times averages."""
    counted, place = re.fullmatch(r"total number of (.+?) in (.+)", name).groups()
    averages = [m for m in mentioned if m.startswith("average number of ")]
    words = {re.fullmatch(r"average number of (.+?) per (.+)", a)[1] for a in averages}
    if any(set(w.split()) <= set(counted.split()) for w in words):
        here = [a for a in averages if a.endswith(f" in {place}")]
        return Definition("products", [p for a in here for p in (a.partition(" per ")[2], a)])
    plain = [m for m in mentioned if not m.startswith(("total number of ", "average number of "))]
    parts = [m for m in plain if m.partition(" in ")[2] == place]
    assert parts, f"nothing is said of {place}"
    return Definition("+", parts)


def needed(problem: Problem, goal: str) -> dict[str, Definition]:
    """The goal and its ancestors, parents first; fails on a cycle or on something undefined."""
    found, doing = {}, set()

    def visit(name):
        if name not in found:
            assert name not in doing, f"{name} depends on itself"
            doing.add(name)
            for parent in problem.definitions[name].parents:
                visit(parent)
            found[name] = problem.definitions[name]

    visit(goal)
    return found


def solve(problem: Problem) -> tuple[int, int, str]:
    """(answer, operations, what a solution ends with)."""
    unknowns = [name for name, definition in problem.definitions.items() if definition.unknown]
    if not unknowns:
        goal, wanted = problem.question, None
        assert not problem.known
    else:
        assert unknowns == [problem.question] and len(problem.known) == 1
        ((goal, wanted),) = problem.known.items()
    steps = needed(problem, goal)
    values = {}
    for name, definition in steps.items():
        value = definition.value(values)
        values[name] = sympy.expand(value) if unknowns else value if problem.modulus is None else value % problem.modulus
    operations = sum(definition.operations() for definition in steps.values())
    if not unknowns:
        return values[goal], operations, goal
    (root,) = sympy.solve(sympy.Eq(values[goal], wanted), X)
    assert root.is_Integer, f"x = {root}"
    return int(root), operations, goal


class Line:
    """a*x + b, with the arithmetic of a solution's sides."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __add__(self, other):
        other = line(other)
        return Line(self.a + other.a, self.b + other.b)

    def __neg__(self):
        return Line(-self.a, -self.b)

    def __sub__(self, other):
        return self + -line(other)

    def __mul__(self, other):
        other = line(other)
        assert not (self.a and other.a)
        return Line(self.a * other.b + self.b * other.a, self.b * other.b)

    def __rsub__(self, other):
        return line(other) - self

    def __eq__(self, other):
        other = line(other)
        return (self.a, self.b) == (other.a, other.b)

    __hash__ = None
    __radd__, __rmul__ = __add__, __mul__


def line(value):
    return value if isinstance(value, Line) else Line(0, value)


def compute(side: str, letters: dict):
    return eval(side, {"__builtins__": {}}, letters)  # our own generator's text


def check_solution(solution: str, problem: Problem) -> None:
    """Fails unless the solution is right in every sign."""
    answer, _, goal = solve(problem)
    steps = needed(problem, goal)
    reverse = bool(problem.known)
    assert solution.startswith(PRELUDE) == reverse
    rest = solution.removeprefix(PRELUDE)
    rng = Random(0)
    point = {name: rng.randrange(10**6, 10**9) for name in steps}
    state = Letters(problem.modulus, reverse)
    done: list[str] = []
    while match := STEP.match(rest):
        rest = rest[match.end() :]
        name, letter, body = match.groups()
        definition = steps[name]
        assert name not in done and set(definition.parents) <= set(done)
        done.append(name)
        if definition.unknown:
            assert letter == "x" and body == "we don't know its value yet but will find it out later"
            state.declare("x", Line(1, 0), point[name], "x")
            continue
        assert not (reverse and letter in "xX")
        made_of = state.body(body, letter)
        assert made_of == (definition.value(point) if definition.parents else definition.constant), name
        state.points[letter] = point[name]
    assert done[-1] == goal and set(done) == set(steps)
    if reverse:
        rest = check_tail(rest, problem.known[goal], state, letter)
    assert rest == f"Answer: {answer}."


class Letters:
    """What the letters of a solution stand for so far: values, values as written, and numbers to compare formulas at."""

    def __init__(self, modulus, reverse):
        self.modulus, self.reverse = modulus, reverse
        self.values, self.written, self.points = {}, {}, {}

    def declare(self, letter, value, point, written):
        assert letter not in self.values
        self.values[letter], self.points[letter], self.written[letter] = value, point, written

    def body(self, body, letter):
        """Checks the chains of a step; returns what its letter comes to at the points."""
        parts = body.split("; ")
        for i, part in enumerate(parts):
            target, *sides = part.removeprefix("so ").split(" = ")
            last = i == len(parts) - 1
            assert (target == letter) == last and 1 <= len(sides) <= 3
            results = [compute(side, self.values) for side in sides]
            if self.modulus:
                results = [result % self.modulus for result in results]
            assert all(result == results[-1] for result in results), part
            assert re.fullmatch(r"-?\d+|(-?\d+ - )?-?(\d+\*)?x( [+-] \d+)?", sides[-1]), part
            if len(sides) == 3:
                assert sides[1] == self.substituted(sides[0]), part
            point = compute(sides[0], self.points)
            self.declare(target, results[-1], point, sides[-1])
        return point

    def substituted(self, side):
        closed = self.reverse and " + " not in side
        words = [word if word in "+-*" else self.written.get(word, word) for word in side.split(" ")]
        return " ".join(f"({word})" if closed and word not in "+-*" else word for word in words)


def check_tail(rest, wanted, state, goal_letter):
    match = TAIL.match(rest)
    assert match, rest
    x = {"x": Line(1, 0)}
    form = state.values[goal_letter]
    assert match["letter"] == goal_letter and int(match["known"]) == int(match["k1"]) == int(match["k2"]) == wanted
    assert compute(match["e1"], x) == form and compute(match["e2"], x) == form
    assert compute(match["e3"], x) == form - wanted
    a, b, by, over, under, root = (int(match[key]) for key in ("a", "b", "by", "over", "under", "root"))
    assert (a, b) == (form.a, wanted - form.b) == (under, over) and by == a and a * root == b
    return rest[match.end() :]
