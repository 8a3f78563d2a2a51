"""Draws a dependency graph with exactly `op` operations, by construction, without trial and error.

The structure grows from the question towards the leaves (`_Plan`): a quantity that is waiting for its definition may only
refer to quantities that are waiting too, or are new. So the graph is acyclic, and every quantity is needed for the question.
`need` counts the operations that the waiting quantities cost at the least; a move is allowed while the budget covers it.
Numbers come second (`numbers.py`), leaves first, choosing between sum and difference, plus and times, so that values stay
in bounds. Only where names or numbers run out is another plan drawn.

Not here: words (`context.py`), sentences (`grammar/render.py`), which (split, seed, index) gets which rng (`synthesis.py`).
"""

from dataclasses import dataclass, field
from random import Random

from datamodules.context import Context
from datamodules.graph_spec import Drawn, GraphSpec, OutOfRoom
from datamodules.numbers import with_numbers
from grammar import Quantity

MAX_TOTAL = 5  # operands of a total in the published data
ATTEMPTS = 64  # redraws when names or numbers run out, before the spec is called impossible


def sample_graph(op: int, context: Context, spec: GraphSpec, rng: Random) -> Drawn:
    """Draw a forward problem with exactly `op` operations (operands summed over all steps; a leaf counts 1).

    Args:
        op: 2 or more.
        context: where names come from.
        spec: the shape of the graph.
        rng: the only source of randomness; the result is a function of its state.

    Raises:
        ValueError: no graph with `op` operations fits the context and the spec.
    """
    if op < 2:
        raise ValueError(f"op={op}: a problem has at least 2 operations; raise `ops`.")
    for _ in range(ATTEMPTS):
        try:
            return with_numbers(_Plan(op, context, spec, rng).grow(), context, spec, rng)
        except OutOfRoom:
            continue
    raise ValueError(
        f"op={op} cannot be built in context {context.name!r}: it runs out of names or of values up to {spec.max_value}; "
        "lower `ops`, or use a context with more items and places."
    )


@dataclass(slots=True)
class _Place:
    """State of one place while the plan grows."""

    items: list[str] = field(default_factory=list)  # names of the quantities in it
    total: str | None = None  # name of its total once something refers to it
    open: bool = True  # false once the total is defined: no item may join
    touched: bool = False  # an item of it is defined already: a total now could close a cycle

    def total_need(self) -> int:
        """Operations that the total costs at the least: its operands, or itself and one item that it has yet to get."""
        return len(self.items) or 2


class _Plan:
    """Structure without numbers: definitions in the order question first, leaves last."""

    def __init__(self, op: int, context: Context, spec: GraphSpec, rng: Random) -> None:
        self.budget, self.spec, self.rng = op, spec, rng
        items = rng.choice(context.items)
        group = rng.choice(context.places) if context.places else ()
        self.noun = context.noun
        self.places = {place: _Place() for place in group}
        self.fresh = [(item, place) for item in items for place in (group or ("",))]
        rng.shuffle(self.fresh)
        self.waiting: list[str] = []  # named, not defined yet
        self.place_of: dict[str, str] = {}
        self.defined: list[Quantity] = []
        self.need = 0

    def grow(self) -> list[Quantity]:
        """Define waiting quantities until the budget is spent. Returns definitions, question first."""
        if self.places and self.rng.random() < self.spec.question_total:
            self._new_total(self.rng.choice(list(self.places)))
        else:
            self._new_item()
        while self.waiting:
            name = self._pop()
            if self.place_of[name] and self.places[self.place_of[name]].total == name:
                self._define_total(name)
            else:
                self._define_item(name)
        if self.budget:
            raise OutOfRoom
        return self.defined

    # --- naming: each new quantity raises `need` by what it costs at the least

    def _new_item(self, place: str | None = None) -> str:
        usable = (n for n in self.fresh if (place is None or n[1] == place) and (not n[1] or self.places[n[1]].open))
        if (chosen := next(usable, None)) is None:
            raise OutOfRoom
        self.fresh.remove(chosen)
        item, at = chosen
        name = f"{item} in {at}" if at else item
        self.place_of[name] = at
        if at:
            state = self.places[at]
            before = state.total_need() if state.total else 0
            state.items.append(name)
            self.need += (state.total_need() if state.total else 0) - before
        self.need += 1
        self.waiting.append(name)
        return name

    def _new_total(self, place: str) -> str:
        state = self.places[place]
        name = state.total = f"total number of {self.noun} in {place}"
        self.place_of[name] = place
        self.need += state.total_need()
        self.waiting.append(name)
        return name

    def _pop(self) -> str:
        """Take a waiting quantity that no waiting total includes."""
        free = [n for n in self.waiting if not self._held(n)]
        name = self.rng.choice(free)
        self.waiting.remove(name)
        return name

    def _held(self, name: str) -> bool:
        place = self.place_of[name]
        return bool(place) and (total := self.places[place].total) is not None and total != name and self.places[place].open

    # --- defining

    def _define_total(self, name: str) -> None:
        state = self.places[self.place_of[name]]
        if not state.items:
            self._new_item(self.place_of[name])
        while len(state.items) < MAX_TOTAL and self.budget - self.need >= 2 and self.rng.random() < 0.5:
            try:
                self._new_item(self.place_of[name])
            except OutOfRoom:
                break
        if len(state.items) > MAX_TOTAL:
            raise OutOfRoom
        self.need -= state.total_need()
        self.budget -= len(state.items)
        state.open = False
        self.defined.append(Quantity(name, "total", tuple(state.items)))

    def _define_item(self, name: str) -> None:
        """Give `name` a definition; `slack` is what the budget holds beyond the bare need."""
        self.need -= 1
        if place := self.place_of[name]:
            self.places[place].touched = True
        slack = self.budget - 1 - self.need
        if slack == 0 and (not self.waiting or self.rng.random() < 0.7):
            return self._finish(name, (), with_constant=False)
        if slack > 0 and self.waiting and self.rng.random() < 0.15:
            return self._finish(name, (), with_constant=False)  # an early leaf
        with_constant = slack > 0 and self.rng.random() < self.spec.constants
        parents: list[str] = []
        limit = min(self.spec.max_terms, self.rng.choice((1, 2, 2, 2, 3) if with_constant else (1, 2, 2, 2, 3, 4)))
        while len(parents) < limit:
            room = self.budget - len(parents) - 1 - with_constant - self.need
            operand = self._operand(room, parents)
            if operand is None:
                break
            parents.append(operand)
        if not parents:
            if slack and not self.waiting:
                raise OutOfRoom
            return self._finish(name, (), with_constant=False)
        return self._finish(name, tuple(parents), with_constant=with_constant)

    def _operand(self, room: int, taken: list[str]) -> str | None:
        """Pick a waiting quantity or a new one; None where `room` operations do not pay for it."""
        if room < 0:
            return None
        known = [n for n in self.waiting if n not in taken]
        must_branch = room > 0 and not self.waiting
        if known and not must_branch and (room == 0 or self.rng.random() < self.spec.reuse):
            return self.rng.choice(known)
        fresh_places = [p for p, s in self.places.items() if s.total is None and s.open and not s.touched]
        if fresh_places and self.rng.random() < self.spec.totals:
            place = self.rng.choice(fresh_places)
            if room >= self.places[place].total_need():
                return self._new_total(place)
        if room >= 1:
            before = self.need
            name = self._new_item()
            if self.need - before <= room:
                return name
            raise OutOfRoom
        return None

    def _finish(self, name: str, parents: tuple[str, ...], *, with_constant: bool) -> None:
        cost = len(parents) + with_constant if parents else 1
        self.budget -= cost
        rule = "given" if not parents else "copy" if len(parents) == 1 else "sum"
        # the constant's number and the choice sum | difference, plus | times come with the numbers
        constant = 1 if with_constant else 0 if not parents else None
        self.defined.append(Quantity(name, rule, parents, constant, "plus" if with_constant and parents else None))
