"""Quantities that the answer does not need, put beside those that it does; they change no value and no operation count."""

from datamodules.problems.arithmetic import Numbers
from datamodules.problems.graph_spec import OutOfRoom
from datamodules.problems.structure import MAX_TERMS, MAX_TOTAL, Draft, Plan, rule_of
from datamodules.problems.vocabulary import Place
from grammar import Quantity

LEAVES = 0.4  # share of them that are plain numbers (published data: 0.41)


class Distractors:
    """Adds to a plan that is filled in. What they refer to is there already, so they close no cycle."""

    def __init__(self, plan: Plan, numbers: Numbers) -> None:
        self.plan, self.numbers = plan, numbers
        self.spec, self.rng = plan.spec, plan.rng
        self.known = list(numbers.values)

    def draw(self) -> list[Quantity]:
        """As many as the spec's range says, each referring to needed quantities and earlier distractors.

        Raises:
            OutOfRoom: there are no names, or no values within bounds, for the fewest that the spec wants.
        """
        fewest, most = self.spec.distractors
        wanted = fewest + int(self.rng.random() * (most - fewest + 1))
        found: list[Quantity] = []
        while len(found) < wanted:
            try:
                found.append(self._one())
            except OutOfRoom:
                if len(found) < fewest:
                    raise
                break
        return found

    def _one(self) -> Quantity:
        name = self.plan.vocabulary.anywhere()
        uses = self.plan.uses
        uses[name] = 0
        parents = () if self.rng.random() < LEAVES else self._parents(self.plan.vocabulary.place_of[name])
        scaled = 0 < len(parents) < MAX_TERMS and self.rng.random() < self.spec.constants
        try:
            quantity = self.numbers.fill(Draft(name, rule_of(parents), parents, scaled))
        except OutOfRoom:
            for parent in parents:
                uses[parent] -= 1
            quantity = self.numbers.fill(Draft(name, "given"))
        self.known.append(name)
        return quantity

    def _parents(self, place: Place) -> tuple[str, ...]:
        parents: list[str] = []
        for _ in range(min(self.spec.max_terms, self.plan.draw_terms())):
            parent = self._new_total(place) if self.rng.random() < self.spec.totals else None
            parent = parent or self.known[int(self.rng.random() * len(self.known))]
            if parent not in parents and self.plan.uses[parent] < self.spec.fan_out:
                parents.append(parent)
                self.plan.uses[parent] += 1
        return tuple(parents)

    def _new_total(self, but: Place) -> str | None:
        """Mention the total of what some other place holds, if its value is within bounds; the place is complete then."""
        vocabulary, uses = self.plan.vocabulary, self.plan.uses
        place = vocabulary.places[int(self.rng.random() * len(vocabulary.places))]
        counts = tuple(place.counts.values())
        if place is but or not place.name or "count" in place.sealed or not 1 <= len(counts) <= MAX_TOTAL:
            return None
        if any(uses[count] >= self.spec.fan_out for count in counts):
            return None
        name = vocabulary.total("count", place)
        try:
            self.numbers.fill(Draft(name, "total", counts))
        except OutOfRoom:
            return None
        place.sealed.add("count")
        uses[name] = 0
        for count in counts:
            uses[count] += 1
        self.known.append(name)
        return name
