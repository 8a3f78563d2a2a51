"""Ids word by word are those of the whole text, for tokenizers of which that is known."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.rows import word_ids
from datamodules.rows.tokenizer import SAMPLE, load_tokenizer, train_tokenizer
from datamodules.rows.word_ids import by_word, token_ids

SHIPPED = {name: load_tokenizer(name) for name in ("published", "garden")}
PIECES = st.sampled_from(
    ["<question>", "</solution>", " ", "  ", "\n", "\t", "wolf", "Zoo's", "-93;", "1234567", "é", "x=2", "[EOS]", "\u00a0"]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join))


def whole(text, tokenizer):
    """Oracle: the tokenizer on the whole text."""
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", SHIPPED)
@given(text=TEXTS)
def test_word_by_word_is_the_whole_text(name, text):
    assert token_ids([text], SHIPPED[name]) == [whole(text, SHIPPED[name])]


def test_examples_and_their_order(synthesis, monkeypatch):
    monkeypatch.setattr(word_ids, "MOST_WORDS", 50)  # words are forgotten on the way
    texts = [text for i in range(40) for text in (synthesis.example("train", i).prompt, synthesis.example("train", i).response)]
    assert token_ids(texts, SHIPPED["published"]) == [whole(text, SHIPPED["published"]) for text in texts]


def test_a_tokenizer_that_gets_entries_reads_them():
    tokenizer = load_tokenizer("garden")
    before = token_ids(["a <new> b"], tokenizer)
    tokenizer.add_tokens(["<new>"])
    assert token_ids(["a <new> b"], tokenizer) == [whole("a <new> b", tokenizer)] != before


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(normalizer={"type": "Lowercase"}), lambda d: d.update(pre_tokenizer={"type": "Whitespace"}),
        lambda d: d.update(pre_tokenizer=None), lambda d: d["model"].update(type="Unigram"),
        lambda d: d["model"].update(dropout=0.1), lambda d: d["added_tokens"][4].update(lstrip=True),
        lambda d: d["added_tokens"][4].update(content="two words"),
        lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
        lambda d: d["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=".+"),
    ],
)  # fmt: skip
def test_other_tokenizers_read_whole_texts(change):
    definition = json.loads(SHIPPED["garden"].backend_tokenizer.to_str())
    assert by_word(definition)
    change(definition)
    assert not by_word(definition)


def test_a_tokenizer_made_here_is_read_by_word():
    made = train_tokenizer({" wolf": 3, "wolf": 1, " 12": 4}, 300)
    assert by_word(json.loads(made.backend_tokenizer.to_str()))
    assert token_ids([SAMPLE], made) == [whole(SAMPLE, made)]
