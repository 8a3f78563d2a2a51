"""JSONL rows in and out, the mixtures of the paper by name, and `python main.py generate`."""

import gzip
import json
from dataclasses import replace

import pytest
import yaml
import zstandard

import main
from datamodules import MidtrainDataModule, PromptDataModule
from datamodules.files.jsonl import to_example, to_row
from datamodules.files.row_source import RowSource
from datamodules.problems.mixture import PRESETS, Cell, Component, Mixture, read_mixture
from datamodules.problems.splits import canonical_hash
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import encode
from grammar import grade, parse_problem, parse_trace, verify
from tests_support import PLAIN

ALL = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")


@pytest.fixture
def examples():
    synthesis = Synthesis(Mixture([Component("3-8", ALL)]))
    return [synthesis.example("train", i) for i in range(20)]


def problems_of(sources, bad_rows="raise"):
    return RowSource(sources, bad_rows=bad_rows, read=to_example)


def lines_of(examples):
    return "".join(json.dumps(to_row(example)) + "\n" for example in examples)


def test_rows_written_are_read_back(tmp_path, examples):
    (tmp_path / "rows.jsonl").write_text(lines_of(examples))
    read = list(problems_of([tmp_path / "rows.jsonl"]))
    assert read == examples  # graphs are not compared by ==
    assert [canonical_hash(e.graph) for e in read] == [canonical_hash(e.graph) for e in examples]


def test_rows_of_a_context_of_ones_own_say_what_it_computes_modulo(tmp_path):
    (tmp_path / "harbour.yaml").write_text("modulus: 7\nitems: [[ferries, tugs, rafts, barges, canoes, punts, tankers, dhows]]\n")
    synthesis = Synthesis(Mixture([Component("3-6", [str(tmp_path / "harbour.yaml")])]), PLAIN)
    examples = [synthesis.example("train", i) for i in range(20)]
    answers = [example.graph.answer for example in examples]
    read = {}
    for name in ("with", "without"):
        rows = [to_row(example) for example in examples]
        if name == "without":
            assert {row.pop("modulus") for row in rows} == {7}
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        read[name] = [example.graph.answer for example in problems_of([tmp_path / f"{name}.jsonl"])]
    assert read["with"] == answers != read["without"]
    assert to_row(replace(synthesis, mixture=Mixture([Component("3", ["garden"])])).example("train", 0))["modulus"] == 5


def test_a_solution_in_other_words_is_left_out(tmp_path, examples):
    rows = [to_row(example) for example in examples[:2]]
    rows[1]["solution"] = "First I add them up. Answer: 3."
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [example.solution for example in problems_of([tmp_path])] == [examples[0].solution, ""]


def test_folders_globs_and_compressed_files_are_read(tmp_path, examples):
    text = lines_of(examples[:3]).encode()
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "deep/b.jsonl.gz").write_bytes(gzip.compress(text))
    (tmp_path / "deep/c.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(text))
    (tmp_path / "notes.txt").write_text("not for us")
    assert len(list(problems_of([tmp_path]))) == 9
    assert len(list(problems_of([str(tmp_path / "**/*.gz")]))) == 3
    assert len(list(problems_of([tmp_path, tmp_path / "a.jsonl"]))) == 9  # no file twice


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "{}",
        '{"problem": 3}',
        '{"problem": "The number of elms equals 2. ", "modulus": "7"}',
        '{"problem": "The number of elms equals the number of ferns.", "question": "?"}',
    ],
)
def test_a_bad_row_is_named_or_counted(tmp_path, examples, bad):
    (tmp_path / "rows.jsonl").write_text(lines_of(examples[:2]) + bad + "\n" + lines_of(examples[2:3]))
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 3: "):
        list(problems_of([tmp_path]))
    rows = problems_of([tmp_path], bad_rows="skip")
    assert len(list(rows)) == 3
    assert rows.skipped == 1


def test_a_source_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="names no file"):
        problems_of([tmp_path / "nowhere"])


@pytest.mark.parametrize("name", yaml.safe_load(PRESETS.read_text()))
def test_every_preset_is_a_mixture_whose_weights_sum_to_1(name):
    assert sum(Mixture(read_mixture(name)).weights.values()) == pytest.approx(1)


def test_presets_have_the_shares_of_the_paper():
    def share(name, ops, contexts=ALL):
        return sum(w for cell, w in Mixture(read_mixture(name)).weights.items() if cell.op in ops and cell.context in contexts)

    assert share("pretrain_20_30_50", range(8, 11)) == pytest.approx(0.5)
    assert share("pretrain_20_30_50_as_released", [3]) == pytest.approx(0.86 / 1.8)
    assert share("midtrain_20_80_edge", range(11, 15)) == pytest.approx(0.8)
    assert share("seed_1", [2], ["teachers_in_school"]) == pytest.approx(0.01)
    assert share("rl_school_90_as_released", range(2, 21), ["teachers_in_school"]) == pytest.approx(0.8)


GARDEN = "- {ops: 2, contexts: [garden], "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ops: 3", "list of components"), (GARDEN + "wieght: 1}", "keys"), ("- {ops: 2}", "keys"), ("[", "is not YAML"),
        ("- {ops: 2, contexts: null}", r"contexts: \[garden\]"), (GARDEN + "modes: 3}", r"modes: \[normalforward\]"),
        (GARDEN + "weight: half}", "'half' of ops 2 is not a number"),
    ],
)  # fmt: skip
def test_a_bad_mixture_file_is_refused(tmp_path, text, message):
    (tmp_path / "mixture.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mixture(tmp_path / "mixture.yaml")
    with pytest.raises(ValueError, match="neither a file nor one of pretrain"):
        read_mixture("nothing")


def test_shares_of_tokens_are_met_by_the_tokens_drawn():
    parts = [Component("3", ["crazy_zootopia"], weight=0.5), Component("15", ["crazy_zootopia"], weight=0.5)]
    data = PromptDataModule(parts, "published", share_of="tokens")
    documents = [
        (e.cell.op, len(encode([e], data.tokenizer)[0].ids)) for e in (data.synthesis.example("train", i) for i in range(2000))
    ]
    tokens = {op: sum(n for o, n in documents if o == op) for op in (3, 15)}
    assert tokens[3] / sum(tokens.values()) == pytest.approx(0.5, abs=0.05)
    assert sum(op == 3 for op, _ in documents) > 1200  # short ones, so many more of them


GENERATE = ["generate", "--ops", "3-5", "--contexts", "crazy_zootopia,teachers_in_school", "--count", "121", "--split", "test"]


def test_generate_writes_the_same_bytes_whatever_the_workers(tmp_path):
    for workers in ("1", "2"):
        assert main.main([*GENERATE, "--workers", workers, "--out", str(tmp_path / f"{workers}.jsonl")]) == 0
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "1.jsonl").open()]
    assert list(rows[0]) == ["problem", "question", "solution", "op", "id", "template", "mode", "length", "d"]
    assert len({row["id"] for row in rows}) == 121
    cells = [(row["op"], row["template"], row["mode"]) for row in rows]
    assert [cells.count(cell) for cell in cells[:6]] == [21, 20, 20, 20, 20, 20]
    for row in rows:
        graph = parse_problem(row["problem"], row["question"])
        assert graph.op == row["op"]
        assert grade(verify(parse_trace(row["solution"]), graph), "executable")


def test_generate_makes_each_cell_once_however_often_it_is_named(tmp_path):
    twice = ["--ops", "3,3-5,4", "--contexts", "crazy_zootopia,teachers_in_school,crazy_zootopia", "--count", "60"]
    for name, change in (("once", ["--count", "60"]), ("twice", twice)):
        assert main.main([*GENERATE, *change, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()


def test_generate_compresses_by_the_name_of_its_file(tmp_path):
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"):
        assert main.main([*GENERATE, "--count", "5", "--out", str(tmp_path / name)]) == 0
    read = [list(problems_of([path])) for path in sorted(tmp_path.iterdir())]
    assert read[0] == read[1] == read[2]
    assert len((tmp_path / "rows.jsonl.zst").read_bytes()) < len((tmp_path / "rows.jsonl").read_bytes()) / 2


def test_generate_draws_by_a_preset(tmp_path):
    assert main.main(["generate", "--mixture", "rl_7_10", "--count", "40", "--out", str(tmp_path / "rows.jsonl")]) == 0
    assert {json.loads(line)["op"] for line in (tmp_path / "rows.jsonl").open()} == {7, 8, 9, 10}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--ops", "4,900"], "whose largest is about"),
        (["--contexts", "nowhere"], "nowhere"), (["--ops", "5-3"], "5-3"), (["--count", "0"], "--count"),
        (["--modes", "sideways"], "sideways"), (["--mixture", "nothing"], "nothing"), (["--number-range", "1"], "number_range"),
    ],
)  # fmt: skip
def test_generate_refuses_bad_arguments_and_writes_nothing(tmp_path, capsys, change, message):
    assert main.main([*GENERATE, *change, "--out", str(tmp_path / "rows.jsonl")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_held_out_problems_come_from_files(tmp_path, examples):
    (tmp_path / "rows.jsonl").write_text(lines_of(examples) + "{\n")
    from datamodules.reasoning import HeldOut

    held_out = HeldOut(files=[str(tmp_path)], bad_rows="skip")
    with pytest.warns(UserWarning, match="1 bad rows"):
        data = PromptDataModule([Component("3", ["garden"])], "published", held_out=held_out)
    assert data.held_out_examples("test", 5) == examples
    assert Cell(3, "garden") in data.synthesis.mixture.cells


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)])
def test_a_file_that_breaks_off_is_named(tmp_path, examples, ending, compress):
    text = lines_of(examples).encode()
    path = tmp_path / f"rows.jsonl.{ending}"
    path.write_bytes(compress(text) + compress(text))  # two frames, as `cat` makes
    assert len(list(problems_of([tmp_path]))) == 40
    for cut in (10, len(compress(text)) // 2, len(compress(text)) + 30):
        path.write_bytes((compress(text) + compress(text))[:cut])
        with pytest.raises(ValueError, match=rf"rows\.jsonl\.{ending}, after line \d+: cannot be read"):
            list(problems_of([tmp_path], bad_rows="skip"))


def test_generate_wants_a_file(tmp_path, capsys):
    assert main.main([*GENERATE, "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_presets_are_replayed_by_name():
    data = MidtrainDataModule("rl_11_14", "published", replay="pretrain_uniform", replay_share=0.2)
    assert sum(w for cell, w in data.synthesis.mixture.weights.items() if cell.op <= 10) == pytest.approx(0.2)
