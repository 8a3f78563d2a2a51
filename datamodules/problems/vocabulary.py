"""The names at hand for one problem: which are taken, and which places are complete because a total of theirs is mentioned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from datamodules.problems.context import Context
from datamodules.problems.graph_spec import OutOfRoom


@dataclass(slots=True, eq=False)
class Place:
    """What one place holds so far.

    name:     "" where the context has no places.
    counts:   item -> name of its count.   averages: item -> name of its average.
    sealed:   kinds ("count", "average") that are complete: a total is mentioned that sums them all.
    touched:  some quantity of it is defined already, so that a total of it could close a cycle.
    """

    name: str
    counts: dict[str, str] = field(default_factory=dict)
    averages: dict[str, str] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    touched: bool = False

    def of(self, kind: str) -> dict[str, str]:
        """Item -> name, of the counts or the averages."""
        return self.counts if kind == "count" else self.averages


class Vocabulary:
    """Hands out names, each once."""

    def __init__(self, context: Context, rng: Random, *, depth: int, wanted: int) -> None:
        """Choose one group of items and one of places, and further ones until there are `wanted` names or no more groups."""
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
        """About how many names are left."""
        return len(self._fresh)

    def anywhere(self) -> str:
        """Take any count or average whose place is not complete.

        Raises:
            OutOfRoom: there is none.
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
        """Take this one."""
        name = f"{item} in {place.name}" if place.name else item
        if kind == "average":
            name = f"average number of {self.context.parts} per {name}"
        place.of(kind)[item] = name
        self.place_of[name] = place
        return name

    def free_items(self, place: Place) -> list[str]:
        """Items that have neither count nor average in this place, in random order."""
        free = [item for item in self.items if item not in place.counts and item not in place.averages]
        self.rng.shuffle(free)
        return free

    def total(self, kind: str, place: Place) -> str:
        """What the total of a place's counts, or of its products of counts and averages, is called."""
        return f"total number of {self.context.noun if kind == 'count' else self.context.all_parts} in {place.name}"


class _Groups:
    """Words of one group drawn at random, to which further groups may be added."""

    def __init__(self, groups: Sequence[tuple[str, ...]], rng: Random) -> None:
        self._left = list(groups)
        self._rng = rng
        self.words: list[str] = []
        self.grow()

    def grow(self) -> bool:
        """Add a group; false where there is none left."""
        if self._left:
            self.words += self._left.pop(int(self._rng.random() * len(self._left)))
            return True
        return False
