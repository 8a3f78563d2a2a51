"""Settings and files that only Python callers, or hands, can get wrong: refused in a line, or read as they are meant."""

import json

import pytest
import yaml
from lightning import Trainer
from tokenizers.normalizers import NFD, Sequence, StripAccents

from datamodules import MidtrainDataModule, PretrainDataModule, PromptDataModule
from datamodules.files.line_files import find_files
from datamodules.files.overlap import KnownProblems
from datamodules.files.row_source import Files
from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.reasoning import HeldOut
from datamodules.rows.tokenizer import load_tokenizer
from datamodules.rows.windows import Packing
from datamodules.yaml_text import read_yaml
from grammar import parse_problem
from grammar.reading.parse import parse_response
from main import main
from tests_support import PLAIN

MIXTURE = [Component(2, ["garden"])]


def data(**settings):
    return PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2, **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data(loss_on="solutions"), r"loss_on='solutions' is unknown; choose from \['all', 'solution'\]"),
        (lambda: data(share_of="token"), r"share_of='token' is unknown; choose from \['examples', 'tokens'\]"),
        (lambda: Packing(fit="worst"), r"packing: fit='worst' is unknown; choose from \['best', 'first'\]"),
        (lambda: Packing(long_documents="truncate"), r"packing: long_documents='truncate' is unknown"),
        (lambda: find_files("./rows.jsonl"), r"files: './rows.jsonl' is not a list; write \['./rows.jsonl'\]"),
    ],
)
def test_a_choice_that_there_is_not(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_share_of_replay_needs_a_mixture(tmp_path):
    rows = tmp_path / "rows.jsonl"
    assert main(["generate", "--count", "4", "--ops", "2", "--contexts", "garden", "--out", str(rows)]) == 0
    with pytest.raises(ValueError, match="needs a `mixture`, not rows of `files`"):
        MidtrainDataModule(None, "garden", files=Files(train=[str(rows)]), replay_share=0.5)


def test_printing_a_data_module_draws_nothing():
    module = data()
    module.trainer = Trainer(max_steps=1, logger=False, accelerator="cpu", enable_checkpointing=False, enable_model_summary=False)
    assert str(module) == "PretrainDataModule(1 cells of problems)"
    assert not module.drawn.take().any()


def test_operations_may_be_a_number_in_a_config(tmp_path):
    config = tmp_path / "config.yaml"
    problems = {"mixture": [{"ops": 2, "contexts": ["garden"]}], "held_out": {"bands": {"ID": 2}, "contexts": ["garden"]}}
    config.write_text(yaml.safe_dump({"data": {"init_args": problems}}))
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "quickstart_pretrain", "--config", str(config), "--print_config"])


@pytest.mark.parametrize("overlap", ["refuse", "allow"])
def test_held_out_files_that_training_draws_are_found(tmp_path, overlap, recwarn):
    mixture, rows = tmp_path / "mixture.yaml", tmp_path / "rows.jsonl"
    mixture.write_text("- {ops: 2-4, contexts: [garden]}\n")
    settings = ["--mixture", str(mixture), "--count", "20"]
    held_out = HeldOut(files=[str(rows)], overlap=overlap)
    assert main(["generate", *settings, "--out", str(rows)]) == 0
    if overlap == "refuse":
        with pytest.raises(ValueError, match=r"20 of the first 20 problems of training are among them; `generate --split test`"):
            PromptDataModule(str(mixture), "garden", held_out=held_out)
        assert main(["generate", *settings, "--split", "test", "--out", str(rows)]) == 0
    PromptDataModule(str(mixture), "garden", held_out=held_out)
    assert any("20 of the first 20" in str(warning.message) for warning in recwarn) == (overlap == "allow")


def test_a_row_of_an_ill_posed_problem_is_known_in_any_order_of_sentences():
    synthesis = Synthesis(Mixture([Component("4-6", ["greenhouse"], ["forwardreverse"])]), GraphSpec(defects=True))
    examples = [synthesis.example("train", i) for i in range(40)]
    known = KnownProblems(examples)
    for example in examples:
        sentences = example.problem.strip().removesuffix(".").split(". ")
        turned = ". ".join(reversed(sentences)) + ". "
        plain = type("Row", (), {"problem": turned, "question": example.question})()
        assert plain in known
    assert sum(synthesis.example("test", i) in known for i in range(40)) == 0


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x:\n  - {weight: 0.9, weight: 1.0}\n"])
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(yaml.YAMLError, match=r"key '(a|weight)' stands twice(.|\n)*line \d"):
        read_yaml(text)
    assert read_yaml("base: &base {a: 1, b: 2}\nnew: {<<: *base, a: 3}\n")["new"] == {"a": 3, "b": 2}


def test_texts_of_another_encoding_and_files_of_another_ending(tmp_path):
    latin, empty, short = (tmp_path / name for name in ("latin.yaml", "empty.yaml", "own.yml"))
    latin.write_bytes("items: [[caf\xe9]]\n".encode("latin-1"))
    empty.write_text("")
    short.write_text(yaml.safe_dump({"items": [["red", "blue"]], "places": [["here", "there"]]}))
    with pytest.raises(ValueError, match=r"latin.yaml is not text in UTF-8 \(byte 12\); save it as UTF-8"):
        load_context(str(latin))
    with pytest.raises(ValueError, match="the file is empty; a context has the keys"):
        load_context(str(empty))
    with pytest.raises(ValueError, match="context 'own': `noun` and `places` go together"):  # found, and read
        load_context(str(short))


def test_one_file_of_two_names_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("")
    assert len(find_files(["rows.jsonl", str(tmp_path / "rows.jsonl"), str(tmp_path)])) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{", "words.json: not JSON"),
        (json.dumps({"vocab_size": "x", "numbers": 1, "pieces": {}}), "must be whole numbers"),
        (json.dumps({"vocab_size": -5, "numbers": 1, "pieces": {}}), "--vocab-size -5 must be at least 1"),
    ],
)
def test_words_of_a_tokenizer_that_are_none(tmp_path, capsys, words, message):
    (tmp_path / "words.json").write_text(words)
    assert main(["tokenizer", "--words", str(tmp_path / "words.json"), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_vocabulary_has_entries(tmp_path, capsys):
    assert main(["tokenizer", "--vocab-size", "-5", "--out", str(tmp_path / "out")]) == 2
    assert "--vocab-size -5 must be at least 1" in capsys.readouterr().err


def test_a_report_of_guesses_has_no_progress_bar_in_it(tmp_path, capsys):
    assert main(["generate", "--count", "5", "--ops", "2", "--contexts", "garden", "--report"]) == 0
    assert capsys.readouterr().out.lstrip().startswith(("|", "op", "kind", "mode", "context"))


def test_a_tokenizer_is_tried_on_the_sentences_that_fill_a_problem(tmp_path):
    tokenizer = load_tokenizer("garden")
    tokenizer.backend_tokenizer.normalizer = Sequence([NFD(), StripAccents()])
    tokenizer.save_pretrained(tmp_path)
    fillers = GraphSpec(fillers=(1, 2), fillers_of="movie_festival_awards", distractors=(0, 0))
    with pytest.raises(ValueError, match="for context 'movie_festival_awards' it does not give back what it reads"):
        PromptDataModule(MIXTURE, str(tmp_path), graph=fillers)


BLANKS = (" ", "\t", "\n", "\r\n", " \n ")


@pytest.mark.parametrize("first", BLANKS)
@pytest.mark.parametrize("second", BLANKS)
def test_blanks_between_words_are_free(first, second):
    text = f"Define roses{first}{second}as{second}A;{first}so A = 3.{second}</solution>{first}<answer>{second}3{first}</answer>"
    trace = parse_response(text)
    assert not trace.errors
    assert (trace.steps[0].name, trace.answer) == ("roses", 3)


@pytest.mark.parametrize("odd", ["\xa0", "\u2028", "\u3000", "\x0b", "\x0c", "\x1c", "\x85"])
@pytest.mark.parametrize(
    "text",
    [
        "Define roses as A; so A = 3.{} </solution> <answer> 3 </answer>",
        "Define roses as A; so A = 3. </solution>{}<answer> 3 </answer>",
        "Define roses as A; so A = 3. </solution> <answer> 3{} </answer>",
        "{}Define roses as A; so A = 3. </solution> <answer> 3 </answer>",
    ],
)
def test_what_the_grammar_does_not_ignore_is_no_blank(odd, text):
    assert not parse_response(text.format("")).errors
    assert parse_response(text.format(odd)).errors


@pytest.mark.parametrize("blank", ["\n", "\t", "\r", "\t "])
def test_sentences_of_a_problem_are_cut_at_any_blank(blank):
    graph = parse_problem(
        f"The number of roses equals 3.{blank}The number of oaks equals 2 times the number of roses.", "How many oaks are there?"
    )
    assert graph.answer == 6
