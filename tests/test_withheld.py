"""Compositions of two skills that are withheld from training."""

import pytest

from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis

PAIR = "copy > sum of 2"
SPEC = GraphSpec(max_terms=2, differences=0.0, constants=0.0, distractors=(0, 0), copies=0.17, end_copies=0.3)


def synthesis(spec):
    return Synthesis(Mixture([Component("4-5", ["garden"])]), spec, random_letters=False)


def reads_a_copy(example) -> bool:
    """Oracle, from the sentences alone: some sum names a quantity that another sentence says is a copy."""
    sentences = [s.strip() for s in example.problem.split(".") if s.strip()]
    copies = {s.split(" equals ")[0] for s in sentences if "the sum of" not in s and " equals the number of" in s}
    sums = [s.split("the sum of ")[1] for s in sentences if "the sum of" in s]
    return any(f"{copy[0].lower()}{copy[1:]}" in parts.split(" and ") for copy in copies for parts in sums)


def test_training_holds_no_withheld_composition_and_testing_does():
    spec = GraphSpec(**{**vars_of(SPEC), "withheld": (PAIR,)})
    train = [synthesis(spec).example("train", i) for i in range(120)]
    assert not any(map(reads_a_copy, train))
    assert not any(PAIR in example.graph.compositions() for example in train)
    test = [synthesis(spec).example("test", i) for i in range(60)]
    assert any(map(reads_a_copy, test))
    assert all(reads_a_copy(e) == (PAIR in e.graph.compositions()) for e in test)


def test_both_skills_are_still_trained():
    spec = GraphSpec(**{**vars_of(SPEC), "withheld": (PAIR,)})
    found = set().union(*(synthesis(spec).example("train", i).graph.compositions() for i in range(60)))
    assert {"given > copy", "given > sum of 2"} <= found


def test_without_anything_withheld_examples_stay_what_they_were():
    assert [synthesis(SPEC).example("test", i).problem for i in range(20)] == [
        synthesis(GraphSpec(**{**vars_of(SPEC), "withheld": (PAIR,)})).example("test", i).problem for i in range(20)
    ]


def test_an_unknown_skill_is_refused():
    with pytest.raises(ValueError, match="copies > sum"):
        GraphSpec(withheld=("copies > sum of 2",))


def vars_of(spec: GraphSpec) -> dict:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}
