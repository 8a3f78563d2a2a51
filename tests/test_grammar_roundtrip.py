"""Printer and parser are one pair, and solutions written from a graph are accepted against its text."""

import pickle
import random
from itertools import pairwise

import pytest
from grammar_cases import random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import (
    Graph,
    Quantity,
    gold_trace,
    grade,
    parse_problem,
    parse_response,
    parse_trace,
    render_problem,
    render_trace,
    verify,
)
from grammar.reading.gold_graph import graph_of
from grammar.writing.solution import variables

seeds = st.integers(0, 2**32)


@settings(max_examples=200, deadline=None)
@given(seed=seeds, reverse=st.booleans(), placed=st.booleans(), modulus=st.sampled_from([None, 7, 10, 97]))
def test_random_problems_and_their_solutions_come_back(seed, reverse, placed, modulus):
    rng = random.Random(seed)
    graph = random_graph(rng, reverse=reverse, placed=placed, modulus=None if reverse else modulus)
    problem, question = render_problem(graph)
    assert parse_problem(problem, question, modulus=graph.modulus) == graph
    assert parse_problem(problem + question, modulus=graph.modulus) == graph
    trace = gold_trace(graph)
    assert parse_trace(render_trace(trace)) == trace
    assert graph_of(trace, modulus=graph.modulus).op == graph.op
    report = verify(trace, graph)
    assert grade(report, "executable") and grade(report, "paper"), report.errors


@settings(max_examples=100, deadline=None)
@given(seed=seeds, reverse=st.booleans())
def test_any_order_and_any_letters_are_accepted(seed, reverse):
    rng = random.Random(seed)
    graph = random_graph(rng, reverse=reverse)
    placed: list[str] = []
    while len(placed) < len(graph.order):  # a random topological order that ends with the end
        ready = [n for n in graph.order if n not in placed and set(graph.quantities[n].parents) <= set(placed)]
        placed.append(rng.choice([n for n in ready if n != graph.end] or ready))
    letters = list(variables(reverse=reverse))[:300]
    rng.shuffle(letters)
    trace = gold_trace(graph, order=placed, letters=letters)
    assert [step.name for step in trace.steps] == placed
    assert grade(verify(trace, graph), "executable")


@settings(max_examples=100, deadline=None)
@given(seed=seeds, reverse=st.booleans())
def test_spans_point_at_the_text_of_steps_and_statements(seed, reverse):
    trace = gold_trace(random_graph(random.Random(seed), reverse=reverse))
    text = render_trace(trace)
    for step in trace.steps:
        assert text[step.start : step.end] == f"Define {step.name} as {step.letter}; {step.body}."
        for statement in step.statements:
            assert text[statement.start : statement.end] == statement.text
            assert statement.text.removeprefix("so ").startswith(f"{statement.letter} = ")
    if trace.ending is not None:
        assert text[trace.ending.start : trace.ending.end].startswith("We know")


def test_solutions_grow_past_one_letter():
    names = [f"item{i}" for i in range(80)]
    chain = [Quantity(names[0], "given", (), 1)]
    chain += [Quantity(b, "copy", (a,), 1, "plus") for a, b in pairwise(names)]
    graph = Graph(tuple(chain), names[-1])
    trace = gold_trace(graph)
    assert graph.answer == 80 and grade(verify(trace, graph), "executable")
    assert max(len(step.letter) for step in trace.steps) == 2
    assert "x" not in "".join(letter for letter, _ in zip(variables(reverse=True), range(600), strict=False)).lower()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "given"},
        {"rule": "given", "constant": -1},
        {"rule": "given", "constant": 10**9},
        {"rule": "copy"},
        {"rule": "sum", "parents": ("a",)},
        {"rule": "difference", "parents": ("a", "b", "c")},
        {"rule": "copy", "parents": ("a",), "constant": 3},
        {"rule": "copy", "parents": ("a",), "scale": "plus"},
        {"rule": "total", "parents": ("a", "b"), "constant": 3, "scale": "plus"},
        {"rule": "products", "parents": ("a", "b", "c")},
        {"rule": "power", "parents": ("a", "b")},
        {"rule": "unknown", "name": "a, b"},
        {"rule": "unknown", "name": "known as b"},
        {"rule": "unknown", "name": "average number of wheels"},
        {"rule": "unknown", "name": "a" * 2000},
        {"rule": "unknown", "name": ""},
    ],
)
def test_quantities_that_no_sentence_can_say_cannot_be_built(wrong):
    with pytest.raises(ValueError, match=r"Quantity|name"):
        Quantity(**({"name": "roses"} | wrong))


def test_orders_and_letters_that_do_not_fit_are_refused():
    graph = Graph((Quantity("a", "given", (), 1), Quantity("b", "copy", ("a",))), "b")
    for order in (["b", "a"], ["a"], ["a", "b", "b"], []):
        with pytest.raises((ValueError, IndexError)):
            gold_trace(graph, order=order)
    with pytest.raises(ValueError, match="letters ran out"):
        gold_trace(graph, letters=["A"])
    with pytest.raises(ValueError, match=r"nothing is said|free|missing"):
        gold_trace(Graph((), "b"))


def test_a_response_renders_as_a_response():
    text = " Define a as A; so A = 1. </solution> <answer> 1 </answer>"
    assert render_trace(parse_response(text)) == text


def test_everything_pickles():
    for reverse in (False, True):
        graph = random_graph(random.Random(1), reverse=reverse)
        report = verify(gold_trace(graph), graph)
        again = pickle.loads(pickle.dumps((graph, report)))
        assert again[0] == graph and again[1].steps == report.steps
        assert render_trace(again[1].trace) == render_trace(report.trace)
        assert grade(verify(again[1].trace, again[0]), "executable")
