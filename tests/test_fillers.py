"""Sentences that make a text longer and its problem no harder."""

from collections import Counter

import pytest
import yaml

from datamodules.problems.context import CONTEXT_FOLDER, load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Cell, Component, Mixture
from datamodules.problems.splits import split_hash, split_of
from datamodules.problems.synthesis import Synthesis
from grammar import Graph, grade, parse_problem, parse_trace, verify
from grammar.reading.parse import require

PLAIN = {"distractors": (0, 0), "max_terms": 2, "differences": 0.0, "constants": 0.0, "shuffle": False}
CELL = Cell(5, "garden")


def examples(split, count, cell=CELL, start=0, **graph):
    synthesis = Synthesis(Mixture([Component("2-5", [cell.context])]), GraphSpec(**{**PLAIN, **graph}), seed=3)
    return [synthesis.example(split, index, cell) for index in range(start, start + count)]


def without(example, words):
    kept = tuple(s for s in example.graph.statements if not any(word in s.name for word in words))
    return Graph(kept, example.graph.question, example.graph.modulus)


def words_of(name):
    return {word for group in load_context(name).items for word in group}


def test_the_text_is_longer_and_the_problem_the_same():
    filled = examples("train", 400, fillers=(0, 6), fillers_of="orchestra")
    counts = Counter(len(e.graph.statements) - len(e.graph.order) for e in filled)
    assert set(counts) == set(range(7)) and min(counts.values()) > 35
    places = Counter()
    for example in filled:
        read = example.graph
        assert parse_problem(example.problem, example.question).statements == read.statements
        assert not any(name in words_of("orchestra") for name in read.order)
        assert grade(verify(require(parse_trace(example.solution)), read), "executable")
        assert sum(len(read.quantities[name].parents) or 1 for name in read.order) == 5  # operations
        places.update(at for at, s in enumerate(read.statements) if s.name in words_of("orchestra"))
    assert places[0] > 40 and places[3] > 40  # before, between and after the others


def test_the_needed_problem_alone_decides_the_split():
    """One problem with other fillers is in the same split, so that none that is held out is trained on."""
    spec, context = GraphSpec(**PLAIN), load_context("garden")
    key = split_hash(5, context, spec, reverse=False)
    for split in ("train", "validation", "test"):
        for example in examples(split, 60, fillers=(1, 6), fillers_of="orchestra"):
            assert split_of(key(without(example, words_of("orchestra")))) == split


def test_contexts_with_places_have_fillers_too():
    for mode in ("normalforward", "forwardreverse"):
        cell = Cell(6, "hospital_wards", mode)
        for example in examples("train", 40, cell, fillers=(2, 4), fillers_of="cloud_services"):
            read = parse_problem(example.problem, example.question)
            assert read.answer == example.graph.answer
            assert grade(verify(require(parse_trace(example.solution)), read), "executable")


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="name it, e"):
        GraphSpec(fillers=(0, 2))
    with pytest.raises(ValueError, match="fillers=3-1 is not a range"):
        GraphSpec(fillers=(3, 1), fillers_of="orchestra")
    with pytest.raises(ValueError, match=r"'garden' has names of 'garden', e\.g\. '\w+'; choose another context"):
        examples("train", 1, fillers=(0, 1), fillers_of="garden")  # at once, not when two names first meet
    with pytest.raises(ValueError, match="asks for, 90"):
        examples("train", 40, fillers=(90, 90), fillers_of="orchestra")


def test_a_place_of_both_contexts_is_refused_since_its_total_would_count_the_filler(tmp_path):
    text = (CONTEXT_FOLDER / "hospital_wards.yaml").read_text()
    other = tmp_path / "others.yaml"
    other.write_text(yaml.safe_dump(yaml.safe_load(text) | {"items": [["lamps", "chairs", "tables"]]}))
    with pytest.raises(ValueError, match="'others' has names of 'hospital_wards'"):
        examples("train", 1, Cell(6, "hospital_wards"), fillers=(1, 1), fillers_of=str(other))
