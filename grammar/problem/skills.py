"""Atomic skills: which operation computes a quantity, and which operations meet in a problem."""

from grammar.problem.graph import Graph
from grammar.problem.quantity import Quantity

SKILLS = (
    "given", "copy", "sum of 2", "sum of 3 or more", "difference", "constant plus", "constant times", "total", "product",
    "equation",
)  # fmt: skip


def skill_of(quantity: Quantity) -> str | None:
    """The operation that computes a quantity, the outermost where there are two; None for the unknown, which is only named."""
    if quantity.rule == "unknown":
        return None
    if quantity.scale is not None:
        return f"constant {quantity.scale}"
    if quantity.rule == "sum":
        return "sum of 2" if len(quantity.parents) == 2 else "sum of 3 or more"
    return {"products": "product"}.get(quantity.rule, quantity.rule)


def compositions(graph: Graph) -> set[str]:
    """Pairs of skills that meet in a problem: "A > B" where a quantity that B computes reads one that A computes."""
    quantities = graph.quantities
    return {
        f"{skill_of(quantities[parent])} > {skill_of(quantity)}"
        for quantity in quantities.values()
        for parent in quantity.parents
        if parent in quantities
    }
