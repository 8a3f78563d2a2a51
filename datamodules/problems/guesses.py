"""Guesses at answers that read numbers off a problem's text and reason about nothing, and how often they are right.

The most frequent answer of a kind of problem is the yardstick beside them. The profile "balanced" of a `GraphSpec` draws again
what they hit.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from grammar import Graph
from grammar.problem.names import read_name


class Seen(NamedTuple):
    """What a guess looks at.

    given, numbers: the numbers that quantities are given, and all, with factors and added constants, in order of the text.
    given_down, numbers_down: the same from the largest down.
    place, item: sums of the numbers given at the place, and of the item, that is asked for.
    sentences: their number.
    """

    given: list[int]
    numbers: list[int]
    given_down: list[int]
    numbers_down: list[int]
    place: int
    item: int
    sentences: int


def seen(graph: Graph) -> Seen:
    """What a guess looks at; a 0 stands in lists that would be too short."""
    given = [s for s in graph.statements if s.rule == "given"]
    named = [(read_name(s.name), s.constant) for s in given]
    asked = read_name(graph.question)
    numbers = [s.constant for s in graph.statements if s.constant is not None] or [0]
    values = [s.constant for s in given] or [0]
    return Seen(
        values, numbers, [*sorted(values, reverse=True), 0], [*sorted(numbers, reverse=True), 0],
        place=sum(number for name, number in named if name.place == asked.place),
        item=sum(number for name, number in named if name.item == asked.item), sentences=len(graph.statements),
    )  # fmt: skip


PREDICTORS: dict[str, Callable[[Seen], float]] = {
    "first given number": lambda text: text.given[0],
    "last given number": lambda text: text.given[-1],
    "largest given number": lambda text: text.given_down[0],
    "second largest given number": lambda text: text.given_down[1],
    "smallest given number": lambda text: min(text.given),
    "most frequent given number": lambda text: max(text.given, key=text.given.count),
    "first number": lambda text: text.numbers[0],
    "last number": lambda text: text.numbers[-1],
    "half of the largest": lambda text: text.given_down[0] / 2,
    "a third of the largest": lambda text: text.given_down[0] / 3,
    "a quarter of the largest": lambda text: text.given_down[0] / 4,
    "twice the largest": lambda text: text.given_down[0] * 2,
    "three times the largest": lambda text: text.given_down[0] * 3,
    "largest less one": lambda text: text.given_down[0] - 1,
    "largest less the second": lambda text: text.numbers_down[0] - text.numbers_down[1],
    "largest less the smallest": lambda text: text.numbers_down[0] - min(text.numbers),
    "largest times the second": lambda text: text.numbers_down[0] * text.numbers_down[1],
    "sum of the two largest": lambda text: text.numbers_down[0] + text.numbers_down[1],
    "sum of the first and the last": lambda text: text.numbers[0] + text.numbers[-1],
    "sum of the given numbers": lambda text: sum(text.given),
    "sum of the numbers": lambda text: sum(text.numbers),
    "sum of those given at the asked place": lambda text: text.place,
    "sum of those given of the asked item": lambda text: text.item,
    "number of sentences": lambda text: text.sentences,
}


def guessed(graph: Graph) -> list[str]:
    """The predictors that are right on a problem."""
    text, answer, modulus = seen(graph), graph.answer, graph.modulus
    guesses = {name: predict(text) for name, predict in PREDICTORS.items()}
    return [name for name, guess in guesses.items() if (guess if modulus is None else guess % modulus) == answer]


def guessable(graph: Graph) -> bool:
    """Whether a predictor is right on a problem; under a modulus, before results are reduced: after that, any is by chance."""
    return bool(guessed(graph if graph.modulus is None else Graph(graph.statements, graph.question)))


@dataclass
class Guesses:
    """How well problems of one kind can be guessed.

    answers: answer -> problems that have it.
    right:   predictor -> problems on which it is right.
    """

    answers: Counter[int | None] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(PREDICTORS, 0)))

    def add(self, graph: Graph) -> None:
        """Count a problem."""
        self.answers[graph.answer] += 1
        self.right.update(guessed(graph))

    def merge(self, other: "Guesses") -> None:
        """Count the problems of another."""
        self.answers.update(other.answers)
        self.right.update(other.right)

    @property
    def problems(self) -> int:
        """Their number."""
        return self.answers.total()

    @property
    def frequent(self) -> float:
        """The share of the most frequent answer."""
        return max(self.answers.values()) / self.problems

    @property
    def best(self) -> tuple[str, float]:
        """The predictor that is right most often, and its share."""
        name = max(self.right, key=self.right.__getitem__)
        return name if self.right[name] else "none is right", self.right[name] / self.problems


Kind = tuple[str, int]  # mode, operations


def guess_table(found: Mapping[Kind, Guesses]) -> str:
    """A Markdown table, a row per mode and number of operations; `ratio`: of the best guess to the most frequent answer."""
    lines = ["| mode | op | problems | most frequent answer | best guess | is right | ratio |", "|---|---|---|---|---|---|---|"]
    for (mode, op), guesses in sorted(found.items()):
        name, share = guesses.best
        cells = (mode, op, guesses.problems, f"{guesses.frequent:.3f}", name, f"{share:.3f}", f"{share / guesses.frequent:.2f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
