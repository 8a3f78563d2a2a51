"""The shape of dependency graphs to draw, and the result of a draw."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from datamodules.choices import check_choice
from grammar import Graph
from grammar.problem.forms import SKILLS
from grammar.problem.linear import MAX_NUMBER

_CHANCES = (
    "reuse", "copies", "differences", "constants", "early_leaves", "end_copies", "totals", "question_total", "known_total",
)  # fmt: skip
SplitBy = Literal["problem", "needed"]
Profile = Literal["plain", "published", "balanced"]
FEWEST_BALANCED = 3  # operations; a problem with fewer, without a modulus, repeats a number
_FEW = 5


@dataclass(frozen=True)
class GraphSpec:
    """Shape of the graphs to draw. The defaults match the published problems, except for the range of the unknown.

    number_range: leaves and added constants are 1 ... number_range-1, factors 2 ... number_range-1 (published: 5).
    max_terms:    operands of one definition, 1 ... 4 (published: 4); at most 3 beside a constant. Totals have another limit.
    max_value:    bound on values and, in reverse mode, on coefficients and constants of x; no effect under a modulus.
    depth:        2: counts and their totals; 3: also averages, and totals of products of counts and averages.
    distractors:  fewest and most quantities that the answer does not need. If names run out there are fewer than
                  drawn, but never fewer than the minimum.
    fillers:      fewest and most sentences that give numbers of another context, at random places: they make texts longer, not
                  problems harder (`fillers.py`). They do not count when problems are split.
    fillers_of:   that context.
    unknown_range: least and greatest value of the unknown in reverse mode, all equally likely (published: 1, 4).
    reuse:        chance that an operand is a quantity that already waits for its definition; 0 gives trees.
    fan_out:      maximum of references to one quantity (published data: 12), including those implied by totals.
    copies:       chance that a definition has one operand; it also has one if no second is available.
    differences:  chance that a definition of two terms is their difference, if bounds allow, and not their sum.
    constants:    chance that a definition gets a constant (`c plus ...`, `c times ...`).
    early_leaves: chance that a quantity is a plain number while others can use the remaining operations.
    end_copies:   chance that a quantity is a copy of another, not a plain number, once operations are scarce.
    totals:       chance that a reference is to the total of a place, if the context has places.
    question_total: chance that the question of a forward problem asks for a total.
    known_total:  chance that the number given in a reverse problem is a total.
    shuffle:      put the sentences in random order; false: each refers only to earlier ones.
    withheld:     compositions of two skills absent from training problems, e.g. "copy > sum of 2": a sum that reads a copy
                  (`grammar.problem.forms`). Problems of other splits may contain them.
    exposed:      share of training problems from which nothing is withheld, each by a draw of its own: the exposed problems of
                  a share are exposed under every larger one, and all others stay the same.
    profile:      which draws are kept. "plain": all, as the settings here have them. "published": problems distributed as
                  published ones are, mode by mode and band by band of operations, in numbers of distractors, steps, depth,
                  fan-out, reuse, kinds of definitions, given numbers and answers (`published.py`); it sets `distractors`,
                  `unknown_range`, `differences` and `totals` itself. "balanced": from 3 operations on, none whose answer a
                  guess gets right that only reads numbers off the text ("the largest given number", `guesses.py`); up to 5
                  operations there are few others unless quantities are computed, so `copies` and `end_copies` count as 0,
                  `constants` as 1 (if not 0), `question_total` and `known_total` as at most 0.2.
    defects:      state some reverse problems as the published generator does, without a definition that the answer needs: they
                  have no answer or another one, and their gold solution says what was meant (`published.defective`).
    split_by:     "needed": in cells with enough structures, problems whose needed parts differ in names alone are in one split,
                  and held-out problems differ in their needed parts as far as possible. "problem": distractors count, as in
                  earlier runs (`splits.py`).
    """

    number_range: int = 5
    max_terms: int = 4
    max_value: int = 1000
    depth: int = 2
    distractors: tuple[int, int] = (0, 4)
    fillers: tuple[int, int] = (0, 0)
    fillers_of: str = ""
    unknown_range: tuple[int, int] = (1, 30)
    reuse: float = 0.9
    fan_out: int = 12
    copies: float = 0.25
    differences: float = 0.5
    constants: float = 0.6
    early_leaves: float = 0.05
    end_copies: float = 0.6
    totals: float = 0.35
    question_total: float = 0.83
    known_total: float = 0.93
    shuffle: bool = True
    withheld: tuple[str, ...] = ()
    exposed: float = 0.0
    profile: Profile = "plain"
    defects: bool = False
    split_by: SplitBy = "needed"

    def __post_init__(self) -> None:
        for name in ("distractors", "fillers", "unknown_range", "withheld"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists of Python; a spec is hashed
        if self.number_range < 3:
            raise ValueError(f"GraphSpec: number_range={self.number_range} leaves no factors; set it to at least 3.")
        if not 1 <= self.max_terms <= 4:
            raise ValueError(f"GraphSpec: max_terms={self.max_terms} must be within 1 and 4.")
        if self.depth not in (2, 3):
            raise ValueError(f"GraphSpec: depth={self.depth} must be 2 or 3.")
        if self.fan_out < 1:
            raise ValueError(f"GraphSpec: fan_out={self.fan_out} must be at least 1.")
        self._check_ranges()
        self._check_choices()
        for name in _CHANCES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"GraphSpec: {name}={getattr(self, name)} is not a probability; set it within 0 and 1.")

    def at(self, op: int) -> Self:
        """The spec of problems with `op` operations: itself, except for those that "balanced" changes."""
        if not (self.profile == "balanced" and FEWEST_BALANCED <= op <= _FEW):
            return self
        question, known = min(0.2, self.question_total), min(0.2, self.known_total)
        computed: dict[str, Any] = {"copies": 0.0, "end_copies": 0.0, "constants": float(self.constants > 0)}
        return replace(self, **computed, question_total=question, known_total=known)

    def _check_ranges(self) -> None:
        for name in ("distractors", "fillers", "unknown_range"):
            low, high = getattr(self, name)
            least = 1 if name == "unknown_range" else 0
            if not least <= low <= high:
                raise ValueError(
                    f"GraphSpec: {name}={low}-{high} is not a range; give two numbers of at least {least}, the lower first."
                )
        if max(self.number_range - 1, self.unknown_range[1]) > self.max_value:
            raise ValueError(f"GraphSpec: max_value={self.max_value} is below number_range or unknown_range; raise it.")
        if self.max_value > MAX_NUMBER:
            raise ValueError(f"GraphSpec: max_value={self.max_value} has too many digits for a text; set at most {MAX_NUMBER}.")

    def _check_choices(self) -> None:
        if self.fillers[1] and not self.fillers_of:
            raise ValueError("GraphSpec: fillers are sentences of another context; name it, e.g. fillers_of: orchestra.")
        check_choice("GraphSpec: split_by", self.split_by, SplitBy)
        check_choice("GraphSpec: profile", self.profile, Profile)
        if self.profile == "published" and (self.depth, self.number_range) != (2, 5):
            raise ValueError(
                "GraphSpec: profile='published' was measured at depth 2 and number_range 5; leave these as they are."
            )
        for pair in self.withheld:
            first, _, second = pair.partition(" > ")
            if not {first, second} <= set(SKILLS):
                raise ValueError(f"GraphSpec: withheld={pair!r} is not of the form 'copy > sum of 2'; skills are {SKILLS}.")
        if not 0 <= self.exposed <= 1 or (self.exposed and not self.withheld):
            raise ValueError(
                f"GraphSpec: exposed={self.exposed} is a share within 0 and 1 of problems from which nothing is `withheld`; set "
                "it to 0 where nothing is."
            )


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph, and a topological order of the quantities it needs: the order of steps in the gold solution."""

    graph: Graph
    order: tuple[str, ...]


class OutOfRoom(Exception):
    """The context has no name left, or no number within bounds fits."""
