"""The tokenizer `released` cuts as the paper's, and theirs, with an entry more than the model has rows, is accepted."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from grammar_cases import response_of, rows
from tokenizers import AddedToken

from datamodules.problems.mixture import MODES
from datamodules.rows.overflowing_bpe import learn_merges, overflowed
from datamodules.rows.tokenizer import SHIPPED, count_pieces, load_tokenizer
from datamodules.rows.vocabulary import entries_in_use

# Mean tokens of solutions under the published tokenizer, op 2-20, as measured on 60 rows each.
PUBLISHED_LENGTHS = {
    MODES[0]: (63, 88, 95, 108, 128, 152, 168, 186, 201, 220, 228, 248, 270, 296, 304, 319, 346, 343, 371),
    MODES[1]: (191, 217, 231, 256, 269, 294, 319, 339, 365, 381, 399, 423, 451, 465, 493, 509, 529, 563, 571),
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("released")


@pytest.mark.parametrize("mode", MODES)
def test_solutions_are_as_long_as_under_the_published_tokenizer(tokenizer, mode):
    of_mode = [row for row in rows("op") if row["mode"] == mode]
    ours = sum(len(tokenizer.encode(response_of(row["solution"]))) for row in of_mode)
    theirs = sum(PUBLISHED_LENGTHS[mode][row["op"] - 2] for row in of_mode)
    assert ours == pytest.approx(theirs, rel=0.04)


def test_it_has_the_published_number_of_entries_and_of_numbers(tokenizer):
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == 2200 and max(vocabulary.values()) == 2199
    assert sum(any(letter.isdigit() for letter in entry) for entry in vocabulary) == pytest.approx(1470, abs=30)


def test_frequent_words_are_spelled_and_rare_ones_are_not(tokenizer):
    assert len(tokenizer.tokenize(" number")) > 3 and len(tokenizer.tokenize(" of")) == 3
    assert tokenizer.tokenize(" as")[-1] == tokenizer.tokenize(" so")[-2] == "s"  # cut at every s
    assert tokenizer.tokenize(" eagle") == ["Ġeagle"] and tokenizer.tokenize(" 217") == ["Ġ217"]


def test_pieces_are_cut_at_the_letters_of_a_class_that_was_meant_otherwise():
    assert [*count_pieces(["The sloop Nina"], "released")] == ["The", "s", "loo", "p", "N", "ina"]


@pytest.mark.parametrize(("count", "held"), [(2**31 - 1, 2**31 - 1), (2**31, -(2**31)), (2**32 + 5, 5), (-3, -3)])
def test_counts_overflow_as_32_bits_do(count, held):
    assert overflowed(count) == held


@pytest.mark.parametrize("scale", [1, 10_000_000, 100_000_000])
def test_merges_are_those_of_counting_afresh_each_time(scale):
    """Oracle: all pairs counted again before every merge."""
    counts = {"abab": 7, "abc": 20, "cab": 11, "bcb": 30, "aab": 2}
    pieces, expected = {piece: [*piece] for piece in counts}, []
    while True:
        totals: Counter = Counter()
        for piece, parts in pieces.items():
            for pair in pairwise(parts):
                totals[pair] += counts[piece] * scale
        best = max(totals, key=lambda pair: (overflowed(totals[pair]), pair), default=None)
        if best is None or overflowed(totals[best]) < 1:
            break
        expected.append(best)
        for piece, parts in pieces.items():
            text, at = [], 0
            while at < len(parts):
                size = 2 if tuple(parts[at : at + 2]) == best else 1
                text.append("".join(parts[at : at + size]))
                at += size
            pieces[piece] = text
    assert learn_merges(counts, 50, scale) == expected


def test_words_keep_how_many_documents_they_are_of():
    assert json.loads((SHIPPED / "released/words.json").read_text())["documents"] == 1500


def test_a_filler_behind_the_last_row_needs_no_row_and_is_named(recwarn):
    theirs = load_tokenizer("released")
    theirs.add_special_tokens({"additional_special_tokens": [AddedToken("<special_token_4>", special=True)]})
    assert entries_in_use(theirs, 2200) == 2200
    assert "<special_token_4> (2200)" in str(recwarn.pop().message)
    assert entries_in_use(theirs, 2199) == 2201  # now a number has no row
    theirs.add_tokens(["zoo"])
    assert entries_in_use(theirs, 2200) == 2202
