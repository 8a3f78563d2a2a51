"""Contexts: words only, checked against the grammar; a user adds one by adding a file."""

from random import Random

import pytest
import yaml

from datamodules.problems.context import CONTEXT_FOLDER, context_names, load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.sampler import sample_graph
from grammar import Quantity, parse_problem, render_problem
from grammar.problem.graph import Graph

GOOD = {
    "noun": "boats",
    "parts": "oars",
    "all_parts": "boat oars",
    "items": [["red canoe", "green kayak"], ["ferry"]],
    "places": [["North Quay", "South Quay"]],
}


def write(folder, **changes):
    raw = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path = folder / "harbour.yaml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


@pytest.mark.parametrize("name", context_names())
def test_every_name_of_a_context_is_read_again_in_every_role(name):
    """As what is defined, as an operand, as what is asked for: all items in all places, and the totals of all places."""
    context = load_context(name)
    items = [item for group in context.items for item in group]
    places = [place for group in context.places for place in group] or [""]
    names = [f"{item} in {place}" if place else item for item in items for place in places]
    if context.parts:
        names += [f"average number of {context.parts} per {name}" for name in names]
    totals = [f"total number of {noun} in {place}" for noun in (context.noun, context.all_parts) if noun for place in places]
    rng = Random(0)
    for asked in names + totals:
        a, b, c = rng.sample(names, 3)
        statements = (
            Quantity(a, "sum", (asked, b, c), 2, "times"),
            Quantity(b, "difference", (asked, c)),
            Quantity(c, "given", (), 3),
        )
        if asked not in (a, b, c):
            statements += (Quantity(asked, "unknown"),) if asked in names else (Quantity(asked, "given", (), 7),)
        graph = Graph(statements, asked)
        problem, question = render_problem(graph)
        assert parse_problem(problem, question) == graph


def test_a_context_is_added_by_adding_a_file(tmp_path):
    context = load_context(write(tmp_path))
    graph = sample_graph(6, context, GraphSpec(depth=3), Random(0)).graph
    assert {"canoe", "kayak", "ferry"} & set(" ".join(graph.mentioned).split())
    assert context.name == "harbour"


def test_the_three_published_contexts_and_three_of_our_own_are_there():
    own = {"cloud_services", "hospital_wards", "mountain_orchards"}
    assert {"crazy_zootopia", "teachers_in_school", "movie_festival_awards", "garden"} | own <= set(context_names())
    assert {path.stem for path in CONTEXT_FOLDER.iterdir()} == set(context_names())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, r"'colour'.* is not a key of a context"),
        ({"items": []}, "`items` needs at least one non-empty group"),
        ({"items": [["ferry", "ferry"]]}, "'ferry'.* occur twice"),
        ({"items": [["ferry"], ["ferry"]]}, "'ferry'.* occur twice"),
        ({"items": ["ferry"]}, "items: expected a list of words"),
        ({"items": [[" ferry"]]}, "items: expected a list of words"),
        ({"items": 3}, "items: expected a list of groups"),
        ({"places": [[]]}, "`places` has an empty group"),
        ({"noun": None}, "`noun` and `places` go together"),
        ({"noun": 5}, "noun: expected words, got 5"),
        ({"all_parts": None}, "`parts` and `all_parts` go together"),
        ({"all_parts": "boat paddles"}, "`all_parts` must hold every word of `parts`"),
        ({"noun": "boat oars"}, "`noun` must not"),
        ({"modulus": 1}, "`modulus` is 1"),
        ({"modulus": "five"}, "`modulus` is 'five'"),
        ({"items": [["boat in bits"]]}, "would not cut 'boat in bits in North Quay'"),
        (
            {"parts": "oars per day", "all_parts": "oars per day of all boats"},
            "would not cut 'average number of oars per day per",
        ),
        ({"items": [["the ferry"]]}, "'the ferry in North Quay'"),
        ({"items": [["ferry, old"]]}, "'ferry, old in North Quay'"),
        ({"places": [["Quay and the Pier"]]}, "Quay and the Pier"),
        ({"items": [["boat that does float"]]}, "boat that does float"),
    ],
)
def test_a_wrong_context_is_refused_with_the_reason(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_context.__wrapped__(write(tmp_path, **changes))


def test_text_that_is_not_yaml_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "x.yaml").write_text("items: [a, b")
    with pytest.raises(ValueError, match=r"x\.yaml: not YAML"):
        load_context(str(tmp_path / "x.yaml"))
    with pytest.raises(ValueError, match=r"'nowhere' does not exist; choose one of .*garden"):
        load_context("nowhere")
