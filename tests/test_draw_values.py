"""Values of draws that no other test fixes: how many distractors, which totals and constants, numbers of fillers, every guess,
what `generate` takes from its arguments, and a digest of the problems themselves."""

import json
from hashlib import blake2b
from random import Random

import pytest

from datamodules.generate_command import main as generate
from datamodules.problems.arithmetic import Arithmetic, Value
from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.guesses import PREDICTORS, guessed, seen
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.sampler import sample_graph
from datamodules.problems.synthesis import Synthesis
from grammar import parse_problem, parse_trace

FORWARD, REVERSE = MODES
PLACED = "crazy_zootopia"


def drawn(count, *, op=8, context=PLACED, reverse=False, **spec):
    """Problems of one kind, each of its own seed."""
    spec, words = GraphSpec(**spec), load_context(context)
    return [sample_graph(op, words, spec, Random(seed), reverse=reverse) for seed in range(count)]


def names_of(graph):
    """Every name that a problem mentions."""
    return {graph.question} | {name for s in graph.statements for name in (s.name, *s.parents)}


def is_total(name):
    return name.startswith("total number of ")


# --- the sampler


@pytest.mark.parametrize(("context", "fewest", "most"), [("garden", 0, 4), ("garden", 2, 3), (PLACED, 0, 4)])
def test_every_number_of_distractors_is_drawn(context, fewest, most):
    found = drawn(300, context=context, distractors=(fewest, most))
    unneeded = {len([s for s in one.graph.statements if s.name not in one.order]) for one in found}
    assert unneeded == set(range(fewest, most + 1))


@pytest.mark.parametrize(("question", "known"), [(1.0, 0.0), (0.0, 1.0)])
def test_what_is_asked_and_what_is_known_are_totals_by_chances_of_their_own(question, known):
    """A total is not stated, unless its number is what is known in a reverse problem."""
    chances = {"question_total": question, "known_total": known, "distractors": (0, 0)}
    assert [is_total(one.graph.question) for one in drawn(60, **chances)] == [question == 1] * 60
    reverse = [one.graph for one in drawn(60, reverse=True, **chances)]
    assert [any(is_total(s.name) for s in graph.statements) for graph in reverse] == [known == 1] * 60


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("distractors", [(0, 0), (4, 4)])
def test_without_chances_of_totals_none_is_mentioned(distractors, reverse):
    chances = {"totals": 0.0, "question_total": 0.0, "known_total": 0.0}
    found = drawn(60, op=12, distractors=distractors, reverse=reverse, **chances)
    assert not [name for one in found for name in names_of(one.graph) if is_total(name)]
    usual = drawn(60, op=12, distractors=distractors, reverse=reverse, **{**chances, "totals": 0.35})
    assert [name for one in usual for name in names_of(one.graph) if is_total(name)]


@pytest.mark.parametrize("context", ["garden", PLACED])
def test_factors_are_at_least_two_and_added_constants_and_numbers_at_least_one(context):
    statements = [s for one in drawn(500, context=context) for s in one.graph.statements]
    found = {scale: {s.constant for s in statements if s.scale == scale} for scale in ("times", "plus")}
    assert found == {"times": {2, 3, 4}, "plus": {1, 2, 3, 4}}
    given = {s.constant for s in statements if s.rule == "given"}
    assert given == ({0, 1, 2, 3, 4} if context == "garden" else {1, 2, 3, 4})


def test_the_size_of_a_form_counts_its_value_its_slope_and_its_constant():
    """Where x is 30, 3x - 85 is 5, 10x - 200 is 100, 61 - 2x is 1 and x + 10 is 40; 7 has no x."""
    arithmetic = Arithmetic(GraphSpec(max_value=84), Random(0), modulus=None, uses={}, unknown=("roses", 30))
    sizes = [arithmetic._size(value) for value in (Value(5, 3), Value(100, 10), Value(7, 0), Value(1, -2), Value(40, 1))]
    assert sizes == [85, 200, 7, 61, 40]
    assert not arithmetic._within(Value(5, 3))
    assert arithmetic._within(Value(6, 3))


# --- fillers


@pytest.mark.parametrize(
    ("context", "fillers_of", "numbers"),
    [("garden", "orchestra", {0, 1, 2, 3, 4}), ("hospital_wards", "cloud_services", {1, 2, 3, 4})],
)
def test_fillers_give_every_number_that_a_problem_may_give(context, fillers_of, numbers):
    spec = GraphSpec(distractors=(0, 0), fillers=(2, 4), fillers_of=fillers_of)
    data = Synthesis(None, spec)
    graphs = [data.example("train", i, Cell(6, context)).graph for i in range(150)]
    items = {item for group in load_context(fillers_of).items for item in group}
    found = [s.constant for graph in graphs for s in graph.statements if s.name.partition(" in ")[0] in items]
    assert len(found) >= 300
    assert set(found) == numbers


# --- what is withheld, and from whom


def test_which_problems_are_exposed_depends_on_the_seed():
    pair = "copy > sum of 2"

    def having(seed, exposed):
        shape = {"copies": 0.5, "constants": 0.0, "differences": 0.0, "max_terms": 2, "distractors": (0, 0)}
        data = Synthesis(None, GraphSpec(**shape, withheld=(pair,), exposed=exposed), seed=seed)
        return {i for i in range(200) if pair in data.example("train", i, Cell(5, "garden")).graph.compositions()}

    would = having(0, 1.0) & having(1, 1.0)
    first, second = having(0, 0.5) & would, having(1, 0.5) & would
    assert len(would) >= 20
    assert 0 < len(first) < len(would)
    assert first != second


# --- guesses


def test_every_predictor_reads_what_it_is_called():
    """Given are 3, 7, 3 and 2; the numbers are 9, 3, 7, 3, 2 and 4; a constant is the largest of them."""
    graph = parse_problem(
        "The number of adult owl in Hill equals 9 plus the number of adult crow in Bank. "
        "The number of adult eagle in Hill equals 3. The number of adult crow in Bank equals 7. "
        "The number of adult owl in Bank equals 3. The number of adult crow in Hill equals 2. "
        "The number of adult eagle in Bank equals 4 times the number of adult crow in Hill.",
        "How many adult owl does Hill have?",
    )
    assert {name: predict(seen(graph)) for name, predict in PREDICTORS.items()} == {
        "first given number": 3, "last given number": 2, "largest given number": 7, "second largest given number": 3,
        "smallest given number": 2, "most frequent given number": 3, "first number": 9, "last number": 4,
        "half of the largest": 7 / 2, "a third of the largest": 7 / 3, "a quarter of the largest": 7 / 4,
        "twice the largest": 14, "three times the largest": 21, "largest less one": 6, "largest less the second": 2,
        "largest less the smallest": 7, "largest times the second": 63, "sum of the two largest": 16,
        "sum of the first and the last": 13, "sum of the given numbers": 15, "sum of the numbers": 28,
        "sum of those given at the asked place": 5, "sum of those given of the asked item": 3, "number of sentences": 6,
    }  # fmt: skip
    assert graph.answer == 16
    assert guessed(graph) == ["sum of the two largest"]


# --- the command


def rows_of(folder, *words):
    out = folder / "rows.jsonl"
    assert generate(["--ops", "4-6", "--contexts", "garden", "--count", "30", "--out", str(out), *words]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_another_seed_generates_other_rows(tmp_path):
    usual, same, other = (rows_of(tmp_path, *words) for words in ((), ("--seed", "0"), ("--seed", "1")))
    assert usual == same
    assert [row["id"] for row in (usual[0], other[0])] == ["train-0-0-op4", "train-1-0-op4"]
    assert not {row["problem"] for row in usual} & {row["problem"] for row in other}


@pytest.mark.parametrize(("words", "more"), [(("0",), {0}), (("2",), {2}), (("1-3",), {1, 2, 3}), ((), {0, 1, 2, 3, 4})])
def test_generated_rows_have_as_many_distractors_as_asked(tmp_path, words, more):
    """Sentences beyond the solution's steps; without places there are no totals, so each step has a sentence."""
    rows = rows_of(tmp_path, *(("--distractors", *words) if words else ()))
    assert {row["problem"].count(".") - len(parse_trace(row["solution"]).steps) for row in rows} == more


# --- the problems themselves

PINNED = {
    ("garden", FORWARD): "2dbff9620c4938f3",
    ("orchestra", FORWARD): "18ebbbcc3daacdf9",
    ("greenhouse", REVERSE): "bd68ec329b6664c5",
    (PLACED, FORWARD): "75558f9235d048cd",
    (PLACED, REVERSE): "c53de96ad07acd42",
}


@pytest.mark.parametrize(("context", "mode"), PINNED)
def test_problems_are_those_that_they_were(context, mode):
    """Studies go on, and are compared, with the problems that they began with. Who changes draws on purpose pins them anew."""
    data, digest = Synthesis(None), blake2b(digest_size=8)
    for index in range(20):
        example = data.example("train", index, Cell(2 + index % 10, context, mode))
        digest.update(repr((example.id, example.problem, example.question, example.solution)).encode())
    assert digest.hexdigest() == PINNED[context, mode]
