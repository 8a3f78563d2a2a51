"""Mixtures, and examples as functions."""

from random import Random

import pytest

from datamodules.problems.mixture import Component, Mixture, parse_ops
from datamodules.problems.synthesis import Synthesis


@pytest.mark.parametrize("text", ["", "a", "4-2", "2-", "2-4-6", "2-1024", "9999"])
def test_ops_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match="ops"):
        parse_ops(text)


def test_mixture_checks_weights_contexts_and_modes():
    with pytest.raises(ValueError, match=r"sum to 1\.8"):
        Mixture([Component("2", ["garden"], weight=1.8)])
    with pytest.raises(ValueError, match="nowhere"):
        Mixture([Component("2", ["nowhere"])])
    with pytest.raises(ValueError, match="sideways"):
        Component("2", ["garden"], modes=["sideways"])
    with pytest.raises(ValueError, match="no cell"):
        Mixture([Component("2", [])])


def test_what_is_named_twice_counts_once():
    assert parse_ops("2,2-4,3") == [2, 3, 4]
    weights = Mixture([Component("2,2,3", ["garden", "garden"], ["normalforward"] * 2)]).weights
    assert list(weights.values()) == [0.5, 0.5]


def test_mixture_draws_by_weight():
    mixture = Mixture([Component("2-3", ["garden"], weight=0.5), Component("4", ["garden"], weight=0.5)])
    rng = Random(0)
    drawn = [mixture.draw(rng).op for _ in range(6000)]
    assert [drawn.count(op) / 6000 for op in (2, 3, 4)] == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


def test_example_is_a_function_of_split_seed_and_index(synthesis):
    again = Synthesis(synthesis.mixture, synthesis.graph, random_letters=False)
    assert [synthesis.example("train", i) for i in (3, 1)] == [again.example("train", i) for i in (3, 1)]
    assert synthesis.example("train", 3) != synthesis.example("train", 4)
