"""Mixtures, examples as functions, tokenizers."""

from random import Random

import pytest

from datamodules.mixture import Component, Mixture, parse_ops
from datamodules.synthesis import Synthesis
from datamodules.tokenizer import SPECIAL_TOKENS, load_tokenizer, train_tokenizer


@pytest.mark.parametrize("text", ["", "a", "4-2", "2-", "2-4-6"])
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


@pytest.mark.parametrize("name", ["garden", "published"])
def test_shipped_tokenizer_has_the_published_special_ids_and_round_trips(name):
    tokenizer = load_tokenizer(name)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(10))
    context = "garden" if name == "garden" else "movie_festival_awards"
    example = Synthesis(Mixture([Component("2-8", [context])])).example("train", 5)
    text = example.prompt + example.response
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_training_a_tokenizer_is_deterministic(synthesis):
    texts = [synthesis.example("train", i).prompt for i in range(200)]
    assert train_tokenizer(texts, 400).get_vocab() == train_tokenizer(texts, 400).get_vocab()


def test_a_missing_tokenizer_names_the_shipped_ones():
    with pytest.raises(ValueError, match="garden"):
        load_tokenizer("nowhere")
