"""Sampled graphs: exactly `op` operations, in bounds, nothing but distractors unneeded, whatever the spec."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Cell
from datamodules.problems.sampler import sample_graph
from datamodules.problems.synthesis import Synthesis, check_gold
from grammar import Graph, parse_problem, render_problem
from grammar.problem.linear import MAX_NUMBER

PLACED = (
    "crazy_zootopia",
    "teachers_in_school",
    "movie_festival_awards",
    "hospital_wards",
    "cloud_services",
    "mountain_orchards",
)
SPECS = st.builds(
    GraphSpec,
    number_range=st.sampled_from([3, 5, 9]),
    max_terms=st.integers(2, 4),
    depth=st.sampled_from([2, 3]),
    distractors=st.sampled_from([(0, 0), (0, 4), (3, 3), (2, 9)]),
    unknown_range=st.sampled_from([(1, 4), (1, 30), (7, 7)]),
    reuse=st.sampled_from([0.0, 0.3, 0.9]),
    fan_out=st.sampled_from([2, 4, 12]),
    copies=st.sampled_from([0.0, 0.6, 0.9]),
    differences=st.sampled_from([0.0, 0.5, 1.0]),
    constants=st.sampled_from([0.1, 0.5, 1.0]),
    totals=st.sampled_from([0.0, 0.3, 0.8]),
    shuffle=st.booleans(),
)


def parents_of(graph: Graph) -> dict[str, list[str]]:
    """Oracle: name -> what it is made of, from the statements; a total from what its place holds."""
    stated = {s.name: list(s.parents) for s in graph.statements if s.rule != "given"}
    stated |= {s.name: [] for s in graph.statements if s.name not in stated}
    names = set(stated) | {p for s in graph.statements for p in s.parents} | {graph.question}
    made = {}
    for name in names:
        if name.startswith("total"):
            place = name.partition(" in ")[2]
            here = {n for n in stated if n.endswith(f" in {place}") and not n.startswith("total")}
            averages = {n for n in here if n.startswith("average")}
            of_products = any(word in name for word in ("children", "teachers", "nominations", "batteries", "alerts", "picked"))
            made[name] = [*averages, *(n.partition(" per ")[2] for n in averages)] if of_products else [*(here - averages)]
        else:
            made[name] = stated[name]
    return made


def needed(graph: Graph, goal: str) -> set[str]:
    """Oracle: the goal and what it is made of."""
    made, todo, found = parents_of(graph), [goal], set()
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            todo += made[name]
    return found


def check(drawn, op: int, spec: GraphSpec) -> None:
    graph = drawn.graph
    assert parse_problem(*render_problem(graph), modulus=graph.modulus) == graph
    assert graph.well_posed
    assert graph.op == op
    goal = drawn.order[-1]
    assert needed(graph, goal) == set(drawn.order)
    stated = {s.name for s in graph.statements}
    unneeded = stated - set(drawn.order)
    assert spec.distractors[0] <= len(unneeded) <= spec.distractors[1]
    uses = Counter(parent for parents in parents_of(graph).values() for parent in parents)
    assert max(uses.values()) <= spec.fan_out
    assert all(len(s.parents) + (s.scale is not None) <= 4 and len(s.parents) <= spec.max_terms for s in graph.statements)
    if not spec.shuffle:
        seen = set()
        for statement in graph.statements:
            assert {p for p in statement.parents if not p.startswith("total")} <= seen
            seen.add(statement.name)


def values(graph: Graph, unknown: int | None) -> dict[str, int]:
    """Oracle: every quantity's number once the unknown has its own; inner sums and differences under the key's tuple."""
    given = tuple(
        s if s.rule != "unknown" else type(s)(s.name, "given", (), unknown)
        for s in graph.statements
        if s.rule != "given" or s is graph.quantities[s.name]
    )
    return {name: value for name, value in Graph(given, graph.question, graph.modulus).values.items()}


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 40), st.sampled_from(PLACED), st.booleans(), SPECS, st.integers(0, 10**9))
def test_a_drawn_problem_is_what_was_asked_for(op, name, reverse, spec, seed):
    if spec.depth == 3 and op < 4 and spec.fan_out < 2:
        return
    drawn = sample_graph(op, load_context(name), spec, Random(seed), reverse=reverse)
    check(drawn, op, spec)
    graph = drawn.graph
    assert (graph.unknown is not None) is reverse
    numbers = values(graph, graph.answer)
    assert all(1 <= number <= spec.max_value for number in numbers.values())
    for s in graph.statements:
        if s.rule == "difference":
            assert numbers[s.parents[0]] > numbers[s.parents[1]]
    if reverse:
        assert graph.question == graph.unknown
        assert spec.unknown_range[0] <= graph.answer <= spec.unknown_range[1]
        forms = [value for value in graph.values.values() if not isinstance(value, int)]
        assert all(abs(form.slope) <= 1000 and abs(form.constant) <= 1000 for form in forms)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("depth", [2, 3])
def test_up_to_a_hundred_operations(depth, reverse):
    spec = GraphSpec(depth=depth)
    for op in (60, 85, 100):
        for name in PLACED:
            check(sample_graph(op, load_context(name), spec, Random(op), reverse=reverse), op, spec)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 50), st.integers(0, 10**9))
def test_bare_names_under_a_modulus(op, seed):
    drawn = sample_graph(op, load_context("garden"), GraphSpec(), Random(seed))
    check(drawn, op, GraphSpec())


def test_values_stay_within_a_small_bound():
    spec = GraphSpec(max_value=30)
    for seed in range(100):
        drawn = sample_graph(2 + seed % 15, load_context("hospital_wards"), spec, Random(seed))
        assert max(drawn.graph.values.values()) <= 30


def test_what_does_not_fit_is_refused_with_the_largest_that_does():
    with pytest.raises(ValueError, match="op=1"):
        sample_graph(1, load_context("garden"), GraphSpec(), Random(0))
    with pytest.raises(
        ValueError, match=r"op=800 cannot be built in context 'crazy_zootopia', whose largest is about [2-6]\d\d:"
    ):
        sample_graph(800, load_context("crazy_zootopia"), GraphSpec(), Random(0))
    with pytest.raises(ValueError, match="modulo 5: it has no equations"):
        sample_graph(4, load_context("garden"), GraphSpec(), Random(0), reverse=True)
    with pytest.raises(ValueError, match="names no `parts`"):
        sample_graph(4, load_context("garden"), GraphSpec(depth=3), Random(0))


@pytest.mark.parametrize(
    "setting",
    [
        {"distractors": (3, 1)},
        {"unknown_range": (0, 4)},
        {"reuse": 1.5},
        {"depth": 4},
        {"max_value": 20},
        {"fan_out": 0},
        {"max_value": 10**9},
    ],
)
def test_a_spec_that_no_graph_can_meet_is_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        GraphSpec(**setting)


def test_numbers_of_nine_digits_are_written_and_verified():
    """The largest that a text may hold; one more digit and no gold solution would be accepted."""
    graph = GraphSpec(max_value=MAX_NUMBER, number_range=100, distractors=[0, 2])
    synthesis = Synthesis(None, graph)
    for index in range(40):
        check_gold(synthesis.example("train", index, Cell(40, "crazy_zootopia")))


def test_a_cell_whose_problems_are_withheld_is_refused_for_that_reason():
    synthesis = Synthesis(None, GraphSpec(withheld=["given > copy"]))
    with pytest.raises(ValueError, match=r"in 2000 draws: .* without what is withheld \(`graph.withheld: \['given > copy'\]`\)"):
        synthesis.example("train", 0, Cell(2, "garden"))


def test_the_unknown_cannot_be_guessed():
    """By default the most frequent answer of a reverse problem is at most one in ten; published, it is one of four."""
    zoo = load_context("crazy_zootopia")
    for op in (2, 9, 20):
        rng = Random(op)
        answers = Counter(sample_graph(op, zoo, GraphSpec(), rng, reverse=True).graph.answer for _ in range(600))
        assert max(answers.values()) <= 0.1 * 600
        published = GraphSpec(unknown_range=(1, 4))
        assert {sample_graph(op, zoo, published, rng, reverse=True).graph.answer for _ in range(100)} == {1, 2, 3, 4}


def test_depth_three_has_averages_and_products():
    rng, zoo = Random(0), load_context("crazy_zootopia")
    graphs = [sample_graph(15, zoo, GraphSpec(depth=3), rng).graph for _ in range(60)]
    rules = Counter(graph.quantities[name].rule for graph in graphs for name in graph.order)
    assert rules["products"] > 20
    assert rules["total"] > 20
    assert any(graph.question.startswith("average") for graph in graphs)
