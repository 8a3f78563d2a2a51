"""The structure of a problem without its numbers, grown from the goal towards the leaves.

A quantity may refer only to quantities that also wait for a definition, or to new ones. So the graph is acyclic, and the goal
needs every quantity. `need` is the minimum of operations that the waiting quantities cost; a move is allowed if the budget
covers it. A total fixes the items of its place when it is mentioned; they wait until it is defined. Every move takes constant
time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Self

from datamodules.problems.context import Context
from datamodules.problems.graph_spec import GraphSpec, OutOfRoom
from grammar.problem.quantity import Rule


@dataclass(slots=True, eq=False)
class Place:
    """The names in use at one place.

    name:     "" if the context has no places.
    counts:   item -> name of its count.   averages: item -> name of its average.
    sealed:   kinds ("count", "average") that are complete, because a total sums them all.
    touched:  some quantity of it is defined, so that a total of it could close a cycle.
    """

    name: str
    counts: dict[str, str] = field(default_factory=dict)
    averages: dict[str, str] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    touched: bool = False

    def of(self, kind: str) -> dict[str, str]:
        """Item -> name, of the counts or the averages."""
        return self.counts if kind == "count" else self.averages


class Names:
    """Hands out names, each once."""

    def __init__(self, context: Context, rng: Random, *, depth: int, wanted: int) -> None:
        """Choose a group of items and one of places, then more until `wanted` names exist or no group is left."""
        self.context, self.rng = context, rng
        kinds = ("count", "average") if depth == 3 else ("count",)
        items, places = _Groups(context.items, rng), _Groups(context.places or (("",),), rng)
        while len(kinds) * len(items.words) * len(places.words) < wanted and (places.grow() or items.grow()):
            pass
        self.items = items.words
        self.places = [Place(name) for name in places.words]
        self.kinds = kinds
        self.place_of: dict[str, Place] = {}
        self._fresh = [(kind, item, place) for place in self.places for kind in kinds for item in self.items]

    def __len__(self) -> int:
        """Approximate number of names left."""
        return len(self._fresh)

    def anywhere(self) -> str:
        """Take a random count or average of a place that is not complete.

        Raises:
            OutOfRoom: none is left.
        """
        fresh, rng = self._fresh, self.rng
        while fresh:
            at = int(rng.random() * len(fresh))
            fresh[at], fresh[-1] = fresh[-1], fresh[at]
            kind, item, place = fresh.pop()
            if kind not in place.sealed and item not in place.of(kind):
                return self.take(kind, item, place)
        raise OutOfRoom

    def take(self, kind: str, item: str, place: Place) -> str:
        """Take the name of a given count or average."""
        name = f"{item} in {place.name}" if place.name else item
        if kind == "average":
            name = f"average number of {self.context.parts} per {name}"
        place.of(kind)[item] = name
        self.place_of[name] = place
        return name

    def free_items(self, place: Place) -> list[str]:
        """Items without count or average at this place, in random order."""
        free = [item for item in self.items if item not in place.counts and item not in place.averages]
        self.rng.shuffle(free)
        return free

    def total(self, kind: str, place: Place) -> str:
        """The name of the total of a place's counts, or of its products of counts and averages."""
        return f"total number of {self.context.noun if kind == 'count' else self.context.all_parts} in {place.name}"


class _Groups:
    """Words of a random group; further groups may be added."""

    def __init__(self, groups: Sequence[tuple[str, ...]], rng: Random) -> None:
        self._left = list(groups)
        self._rng = rng
        self.words: list[str] = []
        self.grow()

    def grow(self) -> bool:
        """Add a group; false if none is left."""
        if self._left:
            self.words += self._left.pop(int(self._rng.random() * len(self._left)))
            return True
        return False


MAX_TOTAL = 5  # operands of a total in the published data
MAX_TERMS = 4  # operands of any other definition, a constant included
LEAF_FACTORS = 0.5  # GraphSpec.early_leaves for factors of products, which must stay small
CROWDED = 1.6  # operations per name left above which definitions are as long as possible
_TOTAL_SIZES = (0.33, 0.78, 0.97)  # chances of at most 1, 2, 3 operands, else 4 (published data)
_TERMS = (0.52, 0.91)  # chances of at most 2, 3 operands if more than one, else 4 (published data)
_PLACES_TRIED = 3


@dataclass(slots=True)
class Draft:
    """A definition without numbers. `scaled`: it gets a constant. A sum of two may still become a difference."""

    name: str
    rule: Rule
    parents: tuple[str, ...] = ()
    scaled: bool = False


def rule_of(parents: tuple[str, ...]) -> Rule:
    """The rule of a definition with these operands, before a sum of two may become a difference."""
    return "given" if not parents else "copy" if len(parents) == 1 else "sum"


class Bag:
    """A set from which random elements are drawn in constant time."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self._at: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Add an element."""
        self._at[name] = len(self.items)
        self.items.append(name)

    def discard(self, name: str) -> None:
        """Remove an element, if present."""
        at = self._at.pop(name, None)
        if at is None:
            return
        last = self.items.pop()
        if last != name:
            self.items[at] = last
            self._at[last] = at

    def draw(self, rng: Random) -> str:
        """A random element, which stays."""
        return self.items[int(rng.random() * len(self.items))]


class Structure:
    """Definitions in the order goal first, leaves last.

    drafts: the definitions so far.   uses: name -> number of references to it.
    """

    def __init__(self, op: int, context: Context, spec: GraphSpec, rng: Random, *, names: int) -> None:
        self.names = Names(context, rng, depth=spec.depth, wanted=names)
        self.budget, self.spec, self.rng = op, spec, rng
        self.placed = bool(context.places)
        self.waiting, self.ready = Bag(), Bag()  # named but not defined; those not summed by a waiting total
        self.holds: dict[str, int] = {}  # name -> waiting totals that sum it
        self.parts: dict[str, tuple[str, ...]] = {}  # total -> its summands
        self.factors: set[str] = set()  # operands of products
        self.uses: dict[str, int] = {}
        self.drafts: list[Draft] = []
        self.need = 0

    def grow(self, chance_of_total: float) -> Self:
        """Define waiting quantities until the budget is spent.

        Raises:
            OutOfRoom: names run out first.
        """
        if not (self.placed and self.rng.random() < chance_of_total and self._new_total(self.budget)):
            self._new_item()
        while self.ready.items:
            name = self.ready.draw(self.rng)
            self.ready.discard(name)
            self.waiting.discard(name)
            if name in self.parts:
                self._define_total(name)
            else:
                self._define_item(name)
        if self.budget:
            raise OutOfRoom
        return self

    # --- naming: each new quantity raises `need` by its minimal cost

    def _wait(self, name: str, cost: int) -> str:
        self.need += cost
        self.uses[name] = 0
        self.waiting.add(name)
        self.ready.add(name)
        return name

    def _new_item(self) -> str:
        return self._wait(self.names.anywhere(), 1)

    def _new_total(self, room: int) -> str | None:
        """Mention the total of some place if `room` covers its cost; else None."""
        places, kinds = self.names.places, self.names.kinds
        for _ in range(_PLACES_TRIED):
            place = places[int(self.rng.random() * len(places))]
            kind = kinds[int(self.rng.random() * len(kinds))]
            if kind in place.sealed or place.touched:
                continue
            items = self._items_to_sum(kind, place, room)
            if items:
                return self._mention(kind, place, items)
        return None

    def _items_to_sum(self, kind: str, place: Place, room: int) -> list[str]:
        """The items a total sums: those of the place, and new ones as chance and `room` allow; empty if none fit."""
        held = [*place.of(kind)]
        ceiling = self.spec.fan_out
        if any(self.uses[name] >= ceiling for item in held for name in self._summed(item, kind, place)):
            return []
        size = self._total_size()
        fixed = kind == "average" and "count" in place.sealed  # no new counts: only those there can be multiplied
        if fixed and any(item not in place.counts for item in held):
            return []
        others = self.names.free_items(place) if size > len(held) and not fixed else []
        if kind == "average":
            others += [item for item, name in place.counts.items() if item not in held and self.uses[name] < ceiling]
        chosen = held + others[: max(0, size - len(held))]
        while len(chosen) > max(1, len(held)) and self._cost(kind, place, chosen) > room:
            chosen.pop()
        return chosen if chosen and len(chosen) <= MAX_TOTAL and self._cost(kind, place, chosen) <= room else []

    def _summed(self, item: str, kind: str, place: Place) -> list[str]:
        """The names in use that make up the total's summand for `item`."""
        kinds = ("count", "average") if kind == "average" else ("count",)
        return [place.of(k)[item] for k in kinds if item in place.of(k)]

    def _total_size(self) -> int:
        draw = self.rng.random()
        return 1 + sum(draw >= edge for edge in _TOTAL_SIZES)

    def _cost(self, kind: str, place: Place, items: list[str]) -> int:
        """Minimum of operations for the total and the quantities that it adds."""
        new = sum(item not in place.of(kind) for item in items)
        if kind == "count":
            return len(items) + new
        return 2 * len(items) + new + sum(item not in place.counts for item in items)

    def _mention(self, kind: str, place: Place, items: list[str]) -> str:
        """Name the total and its parts, which wait for it."""
        parts: list[str] = []
        for item in items:
            for each in ("count", "average") if kind == "average" else ("count",):
                if item not in place.of(each):
                    self._wait(self.names.take(each, item, place), 1)
                parts.append(place.of(each)[item])
        place.sealed.add(kind)
        name = self._wait(self.names.total(kind, place), len(parts))
        self.parts[name] = tuple(parts)
        if kind == "average":
            self.factors.update(parts)
        for part in parts:
            self.uses[part] += 1
            self.holds[part] = self.holds.get(part, 0) + 1
            self.ready.discard(part)
        return name

    # --- defining

    def _define_total(self, name: str) -> None:
        parts = self.parts[name]
        self.need -= len(parts)
        self.budget -= len(parts)
        for part in parts:
            self.holds[part] -= 1
            if not self.holds[part]:
                self.ready.add(part)
        rule: Rule = "products" if len(parts) > 1 and parts[1].startswith("average ") else "total"
        self.drafts.append(Draft(name, rule, parts))

    def _define_item(self, name: str) -> None:
        """Give `name` a definition; `slack` is the budget beyond `need`."""
        self.need -= 1
        self.names.place_of[name].touched = True
        slack = self.budget - 1 - self.need
        crowded = self.budget > CROWDED * (len(self.waiting.items) + 1 + len(self.names))
        parents: list[str] = []
        scaled = False
        if not self._is_leaf(name, slack, crowded=crowded) and self._refer(slack, parents, crowded=crowded):
            left = self.budget - self.need - 1
            scaled = left > 0 and (crowded or self.rng.random() < self.spec.constants) and self.spec.constants > 0
            limit = MAX_TERMS if crowded else self.draw_terms(self.spec.copies)
            limit = min(limit, self.spec.max_terms, MAX_TERMS - scaled)
            while len(parents) < limit:
                if not self._refer(self.budget - self.need - len(parents) - scaled - 1, parents, crowded=crowded):
                    break
        if not parents and slack and not self.waiting.items:
            raise OutOfRoom
        self.budget -= len(parents) + scaled or 1
        self.drafts.append(Draft(name, rule_of(tuple(parents)), tuple(parents), scaled))

    def _is_leaf(self, name: str, slack: int, *, crowded: bool) -> bool:
        """Whether a quantity becomes a leaf by choice, so that another spends the rest of the budget."""
        if not slack:
            return not self.waiting.items or self.rng.random() >= self.spec.end_copies
        chance = LEAF_FACTORS if name in self.factors else self.spec.early_leaves
        return bool(self.waiting.items) and not crowded and self.rng.random() < chance

    def draw_terms(self, copies: float) -> int:
        """Draw the number of operands of a definition; `copies` is the chance of a single one."""
        if self.rng.random() < copies:
            return 1
        draw = self.rng.random()
        return 2 + sum(draw >= edge for edge in _TERMS)

    def _refer(self, room: int, parents: list[str], *, crowded: bool) -> bool:
        """Add an operand to a definition; false if none is available."""
        operand = self._operand(room, parents, crowded=crowded)
        if operand is None:
            return False
        self.uses[operand] += 1
        parents.append(operand)
        return True

    def _operand(self, room: int, taken: list[str], *, crowded: bool) -> str | None:
        """Pick a waiting quantity or a new one; None if `room` operations do not cover it."""
        if room < 0:
            return None
        waits = len(self.waiting.items) > len(taken)
        if waits and (room == 0 or crowded or self.rng.random() < self.spec.reuse) and (known := self._known(taken)):
            return known
        if room == 0:
            return None
        if self.placed and self.rng.random() < self.spec.totals and (total := self._new_total(room)):
            return total
        return self._new_item() if len(self.names) or not waits else self._known(taken)

    def _known(self, taken: list[str]) -> str | None:
        """A waiting quantity outside `taken` with references to spare; None if a few draws find none."""
        for _ in range(4):
            name = self.waiting.draw(self.rng)
            if name not in taken and self.uses[name] < self.spec.fan_out:
                return name
        return None
