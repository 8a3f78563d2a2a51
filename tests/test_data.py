"""Mixtures, examples as functions, packing, tokenizers."""

from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.documents import PackedRows, encode
from datamodules.mixture import Component, Mixture, parse_ops
from datamodules.packing import pack
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


def test_mixture_draws_by_weight():
    mixture = Mixture([Component("2-3", ["garden"], weight=0.5), Component("4", ["garden"], weight=0.5)])
    rng = Random(0)
    drawn = [mixture.draw(rng).op for _ in range(6000)]
    assert [drawn.count(op) / 6000 for op in (2, 3, 4)] == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


def test_example_is_a_function_of_split_seed_and_index(synthesis):
    again = Synthesis(synthesis.mixture, synthesis.graph, random_letters=False)
    assert [synthesis.example("train", i) for i in (3, 1)] == [again.example("train", i) for i in (3, 1)]
    assert synthesis.example("train", 3) != synthesis.example("train", 4)


@given(st.lists(st.integers(1, 64), max_size=60))
def test_packing_keeps_every_document_whole(lengths):
    rows = pack(lengths, 64)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 64 for row in rows)


def test_packing_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="row_length"):
        pack([65], 64)


def packed(synthesis, tokenizer, batches, *, batch_rows=4, solution_only=False, **settings):
    return PackedRows(
        synthesis,
        "train",
        tokenizer,
        row_length=256,
        batch_rows=batch_rows,
        solution_only=solution_only,
        batches=batches,
        **settings,
    )


def test_two_processes_read_what_one_would(synthesis, tokenizer):
    ranks = [packed(synthesis, tokenizer, 30, batch_rows=2, rank=rank, world=2) for rank in (0, 1)]
    for one, *two in zip(packed(synthesis, tokenizer, 30), *ranks, strict=True):
        assert sorted(one.tokens_BT.tolist()) == sorted(row for part in two for row in part.tokens_BT.tolist())
    assert ranks[0].state_dict() == ranks[1].state_dict()


@pytest.mark.parametrize("repeat", [True, False])
def test_validation_repeats_and_training_goes_on(synthesis, tokenizer, repeat):
    loader = packed(synthesis, tokenizer, 2, repeat=repeat)
    first, second = ([b.tokens_BT.tolist() for b in loader] for _ in range(2))
    assert (first == second) is repeat


def test_packed_rows_hold_whole_documents_and_shifted_labels(synthesis, tokenizer):
    batch = next(iter(packed(synthesis, tokenizer, 1)))
    whole = {tuple(d.ids) for d in encode([synthesis.example("train", i) for i in range(PackedRows.WINDOW)], tokenizer)}
    for tokens, labels, document, position in zip(
        batch.tokens_BT, batch.labels_BT, batch.document_BT, batch.position_BT, strict=True
    ):
        for number in range(1, int(document.max()) + 1):
            here = document == number
            assert tuple(tokens[here].tolist()) in whole
            assert position[here].tolist() == list(range(int(here.sum())))
            assert labels[here].tolist() == [*tokens[here].tolist()[1:], -100]
    assert (batch.labels_BT[batch.document_BT == 0] == -100).all()


def test_loss_on_the_solution_begins_after_the_prompt(synthesis, tokenizer):
    batch = next(iter(packed(synthesis, tokenizer, 1, solution_only=True)))
    solution = tokenizer.convert_tokens_to_ids("<solution>")
    for row in range(4):
        here = batch.document_BT[row] == 1
        first = batch.tokens_BT[row][here].tolist().index(solution)
        assert (batch.labels_BT[row][here][:first] == -100).all()
        assert (batch.labels_BT[row][here][first:-1] >= 0).all()


def test_packed_rows_resume_where_they_stopped(synthesis, tokenizer):
    whole = [b.tokens_BT for b in packed(synthesis, tokenizer, 40)]
    first = packed(synthesis, tokenizer, 40)
    batches = iter(first)
    for _ in range(33):  # past a window
        next(batches)
    second = packed(synthesis, tokenizer, 7)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b.tokens_BT) for a, b in zip(whole[33:], second, strict=True))


def test_rows_are_nearly_full(synthesis, tokenizer):
    batches = list(packed(synthesis, tokenizer, 20))
    assert sum(int(b.tokens) for b in batches) / (20 * 4 * 256) > 0.85


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
