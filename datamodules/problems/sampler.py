"""Draws a problem with exactly `op` operations, in either mode, by construction: structure, numbers, distractors.

Structure (`structure.py`) grows from the goal: the quantity asked for, or in reverse mode the one whose number is known besides.
Numbers (`arithmetic.py`) follow from the leaves on, then distractors: quantities that the answer does not need. In reverse mode
one leaf is the unknown: its value is drawn first and kept whatever is drawn again, so all values are equally likely.
Only where names or numbers run out is a plan drawn again; cost is linear in `op`.

Not here: words (`context.py`), sentences (`grammar/writing/render.py`), which example gets which rng (`synthesis.py`).
"""

from random import Random

from datamodules.problems.arithmetic import Numbers
from datamodules.problems.context import Context
from datamodules.problems.graph_spec import Drawn, GraphSpec, OutOfRoom
from datamodules.problems.structure import MAX_TERMS, MAX_TOTAL, Draft, Place, Plan, rule_of
from grammar import Graph, Quantity

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


ATTEMPTS = 64  # redraws when names or numbers run out, before the spec is called impossible
PATIENCE = 8  # redraws before a problem may use twice the names
UNKNOWNS_TRIED = 6  # leaves tried as the unknown of one plan
GREATEST = 1 << 12  # operations looked at when the largest `op` of a context is searched for


def sample_graph(op: int, context: Context, spec: GraphSpec, rng: Random, *, reverse: bool = False) -> Drawn:
    """Draw a problem with exactly `op` operations (operands summed over all steps; a leaf counts 1, so does the unknown).

    Args:
        op: 2 or more.
        context: where names come from.
        spec: the shape of the graph.
        rng: the only source of randomness; the result is a function of its state.
        reverse: ask for an unknown on which a known number depends.

    Raises:
        ValueError: no graph with `op` operations fits the context and the spec.
    """
    if op < 2:
        raise ValueError(f"op={op}: a problem has at least 2 operations; raise `ops`.")
    if reverse and context.modulus is not None:
        raise ValueError(f"context {context.name!r} computes modulo {context.modulus}: it has no equations, so no reverse mode.")
    if spec.depth == 3 and context.parts is None:
        raise ValueError(f"context {context.name!r} names no `parts`, so it has no averages; set GraphSpec.depth to 2.")
    drawn = _attempt(op, context, spec, rng, reverse=reverse)
    if drawn is None:
        raise ValueError(
            f"op={op} cannot be built in context {context.name!r}, whose largest is about "
            f"{_largest(op, context, spec, reverse=reverse)}: it runs out of names or of values up to {spec.max_value}; "
            "lower `ops`, or use a context with more items and places."
        )
    return drawn


def _largest(failed: int, context: Context, spec: GraphSpec, *, reverse: bool) -> int:
    """The largest `op` below `failed` that is drawn, by bisection."""
    low, high = 1, min(failed, GREATEST)
    while high - low > 1:
        middle = (low + high) // 2
        if _attempt(middle, context, spec, Random(middle), reverse=reverse) is None:
            high = middle
        else:
            low = middle
    return low


def _attempt(op: int, context: Context, spec: GraphSpec, rng: Random, *, reverse: bool) -> Drawn | None:
    """Draw until names and numbers suffice; None where they do not."""
    low, high = spec.unknown_range
    value = low + int(rng.random() * (high - low + 1)) if reverse else None
    names = op + spec.distractors[1]
    for attempt in range(ATTEMPTS):
        try:
            plan = Plan(op, context, spec, rng, names=names << attempt // PATIENCE).grow(
                spec.known_total if reverse else spec.question_total
            )
            return _reverse(plan, context, value) if value is not None else _forward(plan, context)
        except OutOfRoom:
            continue
    return None


def _forward(plan: Plan, context: Context) -> Drawn:
    numbers = Numbers(plan.spec, plan.rng, modulus=context.modulus, uses=plan.uses, unknown=None)
    needed = _fill(plan, numbers)
    return _drawn(plan, numbers, needed, question=plan.drafts[0].name, modulus=context.modulus)


def _reverse(plan: Plan, context: Context, value: int) -> Drawn:
    """Choose the unknown among the leaves, so that the goal depends on it."""
    leaves = [draft.name for draft in plan.drafts if draft.rule == "given"]
    goal = plan.drafts[0].name
    candidates = plan.rng.sample(leaves, min(UNKNOWNS_TRIED, len(leaves)))
    for name in [leaf for leaf in candidates if _is_linear(plan, leaf)]:
        numbers = Numbers(plan.spec, plan.rng, modulus=None, uses=dict(plan.uses), unknown=(name, value))
        try:
            needed = _fill(plan, numbers)
        except OutOfRoom:
            continue
        if numbers.values[goal].slope:
            known = Quantity(goal, "given", (), numbers.values[goal].number)
            return _drawn(plan, numbers, [*needed, known], question=name, modulus=context.modulus)
    raise OutOfRoom


def _is_linear(plan: Plan, unknown: str) -> bool:
    """Whether no product has two factors that depend on `unknown`."""
    if plan.spec.depth == 2:
        return True
    dependent = {unknown}
    for draft in reversed(plan.drafts):
        found = [parent in dependent for parent in draft.parents]
        if draft.rule == "products" and any(a and b for a, b in zip(found[::2], found[1::2], strict=True)):
            return False
        if any(found):
            dependent.add(draft.name)
    return True


def _fill(plan: Plan, numbers: Numbers) -> list[Quantity]:
    numbers.cap(draft for draft in plan.drafts if draft.rule == "products")
    return [numbers.fill(draft) for draft in reversed(plan.drafts)]


def _drawn(plan: Plan, numbers: Numbers, needed: list[Quantity], *, question: str, modulus: int | None) -> Drawn:
    """Add distractors, leave out what a problem implies, and put the sentences in order."""
    order = tuple(numbers.values)
    plan.uses = numbers.uses
    others = Distractors(plan, numbers).draw() if plan.spec.distractors[1] else []
    statements = [q for q in (*needed, *others) if q.rule not in ("total", "products")]
    if plan.spec.shuffle:
        plan.rng.shuffle(statements)
    return Drawn(Graph(tuple(statements), question=question, modulus=modulus), order)
