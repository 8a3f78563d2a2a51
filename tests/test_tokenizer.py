"""Tokenizers: shipped ones are what training gives, numbers are tokens, and the command saves all or nothing."""

import json
from random import Random

import pytest

import main
from datamodules.problems.context import PUBLISHED, load_context
from datamodules.problems.mixture import MODES, Cell, Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.tokenizer import SHIPPED, SPECIAL_TOKENS, count_pieces, load_tokenizer, train_tokenizer

NAMES = sorted(path.name for path in SHIPPED.iterdir())
FILES = ("tokenizer.json", "tokenizer_config.json", "words.json")


def assert_same_bytes(folder, name):
    for file in FILES:
        assert (folder / file).read_bytes() == (SHIPPED / name / file).read_bytes(), file


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_tokenizer_is_what_the_command_gives_on_its_words(tmp_path, name):
    assert main.main(["tokenizer", "--words", str(SHIPPED / name / "words.json"), "--out", str(tmp_path)]) == 0
    assert_same_bytes(tmp_path, name)


@pytest.mark.long
def test_the_default_tokenizer_is_what_the_command_gives(tmp_path):
    assert main.main(["tokenizer", "--out", str(tmp_path)]) == 0
    assert_same_bytes(tmp_path, "published")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_tokenizers_have_the_published_special_ids_and_round_trip(name):
    tokenizer = load_tokenizer(name)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(10))
    contexts = PUBLISHED if name in ("published", "released") else name.split("_")
    modes = MODES if load_context(contexts[0]).modulus is None else MODES[:1]
    synthesis = Synthesis(Mixture([Component("2-20", contexts, modes)]))
    for index in range(20):
        text = (example := synthesis.example("train", index)).prompt + example.response
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_single_tokens_up_to_a_limit(name):
    tokenizer, limit = load_tokenizer(name), json.loads((SHIPPED / name / "words.json").read_text())["numbers"]
    assert limit >= (999 if name == "published" else 4)
    assert all(len(tokenizer(f" {number}")["input_ids"]) == 1 for number in range(limit + 1))
    assert len(tokenizer(f" {limit + 1}")["input_ids"]) > 1
    assert len(tokenizer) <= 2200


def test_words_of_both_modes_and_all_contexts_are_single_tokens():
    """Letters after the first 52 have two, and may be two tokens."""
    tokenizer, synthesis = load_tokenizer("published"), Synthesis(Mixture([Component("2", ["garden"])]))
    for context in (*PUBLISHED, "hospital_wards", "cloud_services", "mountain_orchards"):
        for mode in MODES:
            example = synthesis.example("test", 0, Cell(15, context, mode))
            words = [piece for piece in count_pieces([example.prompt + example.response]) if piece[-1].isalpha()]
            assert all(len(tokenizer(word)["input_ids"]) == 1 for word in words)


def test_tags_are_not_trained_on():
    assert count_pieces(["<question> a b </question> <solution> c </solution>"]) == {" a": 1, " b": 1, " c": 1}


def test_training_depends_on_counts_alone(synthesis):
    counts = count_pieces(synthesis.example("train", i).prompt for i in range(200))
    shuffled = list(counts.items())
    Random(0).shuffle(shuffled)
    one, other = train_tokenizer(counts, 400), train_tokenizer(dict(shuffled), 400)
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
    assert len(one) == 400


def test_the_command_trains_on_a_mixture(tmp_path):
    (tmp_path / "mixture.yaml").write_text("- {ops: '2-4', contexts: [garden]}")
    arguments = ["--mixture", str(tmp_path / "mixture.yaml"), "--examples", "50", "--numbers", "20", "--vocab-size", "600"]
    for out in ("one", "two"):
        assert main.main(["tokenizer", *arguments, "--out", str(tmp_path / out)]) == 0
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == list(FILES)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert json.loads((tmp_path / "one/words.json").read_text())["pieces"][" Define"] > 50
    tokenizer = load_tokenizer(str(tmp_path / "one"))
    assert len(tokenizer(" 20")["input_ids"]) == 1 < len(tokenizer(" 21")["input_ids"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--examples", "20", "--vocab-size", "300"], "no room for"), (["--numbers", "1000"], "--numbers 1000"),
        (["--examples", "0"], "--examples"), (["--words", "nowhere.json"], "nowhere.json"),
        (["--words", "pyproject.json"], "expected an object"),
        (["--words", "pyproject.json", "--vocab-size", "300"], "has its own --vocab-size; leave that out"),
        (["--words", "pyproject.json", "--splitting", "released"], "has its own --splitting; leave that out"),
    ],
)  # fmt: skip
def test_a_refused_command_leaves_what_is_there(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.json").write_text("[]")
    out = tmp_path / "out"
    out.mkdir()
    (out / "tokenizer.json").write_text("old")
    assert main.main(["tokenizer", "--out", str(out), *change]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["tokenizer.json"]
    assert (out / "tokenizer.json").read_text() == "old"


def test_a_missing_tokenizer_names_the_shipped_ones():
    with pytest.raises(ValueError, match="garden"):
        load_tokenizer("nowhere")
