"""Does the text of a problem determine its answer, and to what?"""

from typing import TYPE_CHECKING

from grammar.linear import Linear

if TYPE_CHECKING:
    from grammar.graph import Graph


def solve(graph: "Graph") -> tuple[int | None, str | None]:
    """The answer and None, or None and the reason why there is none."""
    answer = graph.values.get(graph.question)
    if isinstance(answer, int):
        return answer, None
    form = graph.values.get(graph.end)
    if isinstance(form, Linear) and graph.question == graph.unknown:
        known = next((s.constant for s in graph.statements if s.name == graph.end and s.rule == "given"), None)
        if known is not None and (known - form.constant) % form.slope == 0:
            return (known - form.constant) // form.slope, None
    return None, f"the text does not determine {graph.question!r}"
