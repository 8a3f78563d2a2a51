"""Draws a problem with exactly `op` operations, in either mode, by construction: structure, numbers, distractors.

The structure (`structure.py`) grows from the goal: the quantity asked for, or in reverse mode the one whose number is given.
Numbers (`arithmetic.py`) are filled in from the leaves up; distractors, quantities that the answer does not need, come last. In
reverse mode one leaf is the unknown: its value is drawn first and survives redraws, so all values are equally likely.
A structure is redrawn only if names or numbers run out; cost is linear in `op`.

Not here: words (`context.py`), sentences (`grammar/writing/render.py`), which example gets which rng (`synthesis.py`).
"""

from random import Random

from datamodules.problems.arithmetic import Arithmetic
from datamodules.problems.context import Context
from datamodules.problems.graph_spec import Drawn, GraphSpec, OutOfRoom
from datamodules.problems.structure import MAX_TERMS, MAX_TOTAL, Draft, Place, Structure, rule_of
from grammar import Graph, Quantity

LEAVES = 0.4  # share of distractors that are plain numbers
PUBLISHED = (0.44, 0.6, 0.38)  # in published rows: that share; of the others those of one operand, and with a constant


class Distractors:
    """Adds distractors to a structure that is filled in. They refer only to what exists, so they close no cycle."""

    def __init__(self, structure: Structure, arithmetic: Arithmetic) -> None:
        self.structure, self.arithmetic = structure, arithmetic
        self.spec, self.rng = structure.spec, structure.rng
        self.known = list(arithmetic.values)
        own = (LEAVES, self.spec.copies, self.spec.constants)
        self.leaves, self.copies, self.constants = PUBLISHED if self.spec.profile == "published" else own

    def draw(self) -> list[Quantity]:
        """Draw a number of distractors within the spec's range; each refers to needed quantities and earlier distractors.

        Raises:
            OutOfRoom: names, or values within bounds, run out before the spec's minimum.
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
        name = self.structure.names.anywhere()
        uses = self.structure.uses
        uses[name] = 0
        parents = () if self.rng.random() < self.leaves else self._parents(self.structure.names.place_of[name])
        scaled = 0 < len(parents) < MAX_TERMS and self.rng.random() < self.constants
        try:
            quantity = self.arithmetic.fill(Draft(name, rule_of(parents), parents, scaled))
        except OutOfRoom:
            for parent in parents:
                uses[parent] -= 1
            quantity = self.arithmetic.fill(Draft(name, "given"))
        self.known.append(name)
        return quantity

    def _parents(self, place: Place) -> tuple[str, ...]:
        parents: list[str] = []
        for _ in range(min(self.spec.max_terms, self.structure.draw_terms(self.copies))):
            parent = self._new_total(place) if self.rng.random() < self.spec.totals else None
            parent = parent or self.known[int(self.rng.random() * len(self.known))]
            if parent not in parents and self.structure.uses[parent] < self.spec.fan_out:
                parents.append(parent)
                self.structure.uses[parent] += 1
        return tuple(parents)

    def _new_total(self, but: Place) -> str | None:
        """Mention the total of another place, if its value is within bounds; that place is then complete."""
        names, uses = self.structure.names, self.structure.uses
        place = names.places[int(self.rng.random() * len(names.places))]
        counts = tuple(place.counts.values())
        if place is but or not place.name or "count" in place.sealed or not 1 <= len(counts) <= MAX_TOTAL:
            return None
        if any(uses[count] >= self.spec.fan_out for count in counts):
            return None
        name = names.total("count", place)
        try:
            self.arithmetic.fill(Draft(name, "total", counts))
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
UNKNOWNS_TRIED = 6  # leaves of one structure tried as the unknown
GREATEST = 1 << 12  # limit of the search for the largest `op` of a context


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
    """Draw until names and numbers suffice; None if they never do."""
    low, high = spec.unknown_range
    value = low + int(rng.random() * (high - low + 1)) if reverse else None
    names = op + spec.distractors[1]
    for attempt in range(ATTEMPTS):
        try:
            structure = Structure(op, context, spec, rng, names=names << attempt // PATIENCE).grow(
                spec.known_total if reverse else spec.question_total
            )
            return _reverse(structure, context, value) if value is not None else _forward(structure, context)
        except OutOfRoom:
            continue
    return None


def _forward(structure: Structure, context: Context) -> Drawn:
    arithmetic = Arithmetic(structure.spec, structure.rng, modulus=context.modulus, uses=structure.uses, unknown=None)
    needed = _fill(structure, arithmetic)
    return _drawn(structure, arithmetic, needed, question=structure.drafts[0].name, modulus=context.modulus)


def _reverse(structure: Structure, context: Context, value: int) -> Drawn:
    """Choose the unknown among the leaves, so that the goal depends on it."""
    leaves = [draft.name for draft in structure.drafts if draft.rule == "given"]
    goal = structure.drafts[0].name
    candidates = structure.rng.sample(leaves, min(UNKNOWNS_TRIED, len(leaves)))
    for name in [leaf for leaf in candidates if _is_linear(structure, leaf)]:
        arithmetic = Arithmetic(structure.spec, structure.rng, modulus=None, uses=dict(structure.uses), unknown=(name, value))
        try:
            needed = _fill(structure, arithmetic)
        except OutOfRoom:
            continue
        if arithmetic.values[goal].slope:
            known = Quantity(goal, "given", (), arithmetic.values[goal].number)
            return _drawn(structure, arithmetic, [*needed, known], question=name, modulus=context.modulus)
    raise OutOfRoom


def _is_linear(structure: Structure, unknown: str) -> bool:
    """Whether no product has two factors that depend on `unknown`."""
    if structure.spec.depth == 2:
        return True
    dependent = {unknown}
    for draft in reversed(structure.drafts):
        found = [parent in dependent for parent in draft.parents]
        if draft.rule == "products" and any(a and b for a, b in zip(found[::2], found[1::2], strict=True)):
            return False
        if any(found):
            dependent.add(draft.name)
    return True


def _fill(structure: Structure, arithmetic: Arithmetic) -> list[Quantity]:
    arithmetic.cap(structure.drafts)
    return [arithmetic.fill(draft) for draft in reversed(structure.drafts)]


def _drawn(structure: Structure, arithmetic: Arithmetic, needed: list[Quantity], *, question: str, modulus: int | None) -> Drawn:
    """Add distractors, omit what a problem implies, and order the sentences."""
    order = tuple(arithmetic.values)
    structure.uses = arithmetic.uses
    others = Distractors(structure, arithmetic).draw() if structure.spec.distractors[1] else []
    statements = [q for q in (*needed, *others) if q.rule not in ("total", "products")]
    if structure.spec.shuffle:
        structure.rng.shuffle(statements)
    return Drawn(Graph(tuple(statements), question=question, modulus=modulus), order)
