"""Every small problem, and what is true of it by brute force: which number its text fixes, and how that follows.

The quantities are counts of one place and their total. Each count is not defined, "exists", is a number, a copy of another or
the sum of two others; up to two quantities may have a number besides. Numbers are those of one solution, so none contradict.
It shares no code with the package.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations, product

TOTAL = "total number of trees in Z"
FREE_VALUES = (4, 6, 9, 11)  # what counts are that nothing defines
GIVEN_VALUES = (2, 3, 5, 7)


@dataclass(frozen=True)
class Small:
    """A problem.

    said:  of each count None, "exists", "given", or the places of its parents.
    extra: the places of the quantities (the total's is the number of counts) that have a number besides.
    asked: the place of the quantity asked for.
    """

    said: tuple
    extra: tuple[int, ...]
    asked: int

    def name(self, place: int) -> str:
        return TOTAL if place == len(self.said) else f"{'abcd'[place]}s in Z"

    def parents(self) -> dict[int, tuple[int, ...]]:
        """Place -> what computes it, the total from all that is mentioned."""
        found = {i: said for i, said in enumerate(self.said) if isinstance(said, tuple)}
        mentioned = {i for i, said in enumerate(self.said) if said is not None} | {self.asked, *self.extra}
        mentioned |= {j for said in found.values() for j in said}
        total = len(self.said)
        if total in mentioned and mentioned - {total}:
            found[total] = tuple(sorted(mentioned - {total}))
        return found

    def ignored(self) -> set[int]:
        """What depends on a cycle."""
        parents, bad = self.parents(), set()
        for place in range(len(self.said) + 1):
            reached, waiting = set(), [place]
            while waiting:
                for parent in parents.get(waiting.pop(), ()):
                    if parent not in reached:
                        reached.add(parent)
                        waiting.append(parent)
            if place in reached:
                bad.add(place)
        while more := {i for i, ps in parents.items() if i not in bad and bad & set(ps)}:
            bad |= more
        return bad

    def truth(self) -> dict[int, int]:
        """A value for each quantity that does not depend on a cycle."""
        parents, ignored = self.parents(), self.ignored()

        def value(place: int) -> int:
            if place in parents:
                return sum(map(value, parents[place]))
            said = self.said[place] if place < len(self.said) else None
            return GIVEN_VALUES[place] if said == "given" else FREE_VALUES[place] if place < len(self.said) else 8

        return {i: value(i) for i in range(len(self.said) + 1) if i not in ignored}

    def numbers(self) -> dict[int, int]:
        """Place -> the number that a sentence states."""
        truth = self.truth()
        given = {i: GIVEN_VALUES[i] for i, said in enumerate(self.said) if said == "given"}
        return given | {i: truth.get(i, 8) for i in self.extra}

    def text(self) -> tuple[str, str]:
        """Its sentences and its question."""
        sentences = []
        for i, said in enumerate(self.said):
            if said == "exists":
                sentences.append(f"The number of {self.name(i)} exists, and its number is greater than 0.")
            elif isinstance(said, tuple):
                refs = " and ".join(f"the number of {self.name(j)}" for j in said)
                sentences.append(f"The number of {self.name(i)} equals {'the sum of ' * (len(said) > 1)}{refs}.")
        for i, number in self.numbers().items():
            subject = self.name(i) if i == len(self.said) else f"number of {self.name(i)}"
            sentences.append(f"The {subject} equals {number}.")
        question = f"What is the {TOTAL}?" if self.asked == len(self.said) else f"How many {'abcd'[self.asked]}s does Z have?"
        return " ".join(sentences), question

    def determined(self) -> Fraction | None:
        """What its equations fix for what is asked, by elimination over all quantities."""
        ignored, parents = self.ignored(), self.parents()
        if self.asked in ignored:
            return None
        size = len(self.said) + 1
        rows = []
        for i, ps in parents.items():
            if i not in ignored:
                rows.append([Fraction((j == i) - ps.count(j)) for j in range(size)] + [Fraction(0)])
        for i, number in self.numbers().items():
            if i not in ignored:
                rows.append([Fraction(j == i) for j in range(size)] + [Fraction(number)])
        columns = [j for j in range(size) if j != self.asked] + [self.asked]
        for column in columns:
            pivot = next((row for row in rows if row[column]), None)
            if pivot is None:
                continue
            if column == self.asked:
                return pivot[-1] / pivot[column]
            rest = [row for row in rows if row is not pivot]
            rows = [[a - b * row[column] / pivot[column] for a, b in zip(row, pivot, strict=True)] for row in rest]
        return None

    def follows(self) -> str | None:
        """ "forward", "reverse", or None: how a solution can state what follows."""
        parents, numbers, ignored = self.parents(), self.numbers(), self.ignored()
        if self.asked in ignored:
            return None

        def value(place: int, x: int | None) -> tuple[int, int] | None:
            """(slope, constant) of a quantity made of x and numbers."""
            if place in ignored:
                return None
            if place == x:
                return 1, 0
            made = [value(parent, x) for parent in parents[place]] if place in parents else [None]
            if None not in made:
                return sum(slope for slope, _ in made), sum(constant for _, constant in made)
            return (0, numbers[place]) if place in numbers else None

        if value(self.asked, None) is not None:
            return "forward"
        if self.asked in parents:
            return None
        forms = (value(place, self.asked) for place in numbers)
        return "reverse" if any(form is not None and form[0] for form in forms) else None


def every(counts: int) -> list[Small]:
    """All problems over so many counts and their total, one of those alike up to names."""
    seen, found = set(), []
    others = {i: [j for j in range(counts) if j != i] for i in range(counts)}
    options = [[None, "exists", "given", *((j,) for j in others[i]), *combinations(others[i], 2)] for i in range(counts)]
    orders = list(permutations(range(counts)))
    for said in product(*options):
        free = [i for i in range(counts + 1) if i == counts or said[i] != "given"]
        for extra in ((), *combinations(free, 1), *combinations(free, 2)):
            for asked in range(counts + 1):
                if (said, extra, asked) not in seen:
                    seen.update(_renamed(said, extra, asked, order) for order in orders)
                    found.append(Small(said, extra, asked))
    return found


def _renamed(said: tuple, extra: tuple, asked: int, order: tuple[int, ...]) -> tuple:
    """The same problem, its counts in another order: count i is called order[i]."""
    called = [*order, len(order)]
    new = [None] * len(order)
    for i, what in enumerate(said):
        new[order[i]] = tuple(sorted(called[j] for j in what)) if isinstance(what, tuple) else what
    return tuple(new), tuple(sorted(called[i] for i in extra)), called[asked]
