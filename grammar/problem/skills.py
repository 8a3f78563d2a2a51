"""Atomic skills: which operation computes a quantity, and which operations meet in a problem."""

from grammar.problem.forms import SKILLS
from grammar.problem.graph import Graph
from grammar.problem.quantity import Quantity

__all__ = ["SKILLS", "compositions", "skill_of"]


def skill_of(quantity: Quantity) -> str | None:
    """The operation that computes a quantity, the outer one of two; None for the unknown, which is only named."""
    return f"constant {quantity.scale}" if quantity.scale is not None else quantity.form.skill(len(quantity.parents))


def compositions(graph: Graph) -> set[str]:
    """Pairs of skills that meet in a problem: "A > B" where a quantity that B computes reads one that A computes."""
    quantities = graph.quantities
    return {
        f"{skill_of(quantities[parent])} > {skill_of(quantity)}"
        for quantity in quantities.values()
        for parent in quantity.parents
        if parent in quantities
    }
