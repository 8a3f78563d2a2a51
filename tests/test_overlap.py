"""Rows to train on that are problems to evaluate on are counted and refused, whatever the order of their sentences."""

import json

import pytest

import main
from datamodules import PretrainDataModule, PromptDataModule
from datamodules.files.jsonl import to_example, to_row
from datamodules.files.overlap import KnownProblems
from datamodules.files.row_source import Files, to_solved
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import Synthesis
from datamodules.reasoning import HeldOut

DATA = Synthesis(None)
CELLS = [Cell(op, context, mode) for op in (3, 6) for context in ("crazy_zootopia", "hospital_wards") for mode in MODES]


def rows(split, count=40):
    return [to_row(DATA.example(split, i, CELLS[i % len(CELLS)])) for i in range(count)]


def turned(row):
    """The same problem with its sentences in another order."""
    sentences = row["problem"].strip().rstrip(".").split(". ")
    return row | {"problem": ". ".join(sentences[::-1]) + "."}


def write(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


@pytest.mark.parametrize("read", [to_solved, to_example])
def test_a_problem_is_known_in_any_order_of_sentences_and_no_other_is(read):
    held = rows("test")
    known = KnownProblems(to_example(row, "held", i) for i, row in enumerate(held))
    assert all(read(row, "a", 1) in known for row in held)
    assert all(read(turned(row), "a", 1) in known for row in held)
    assert not any(read(row, "a", 1) in known for row in rows("train"))
    changed = [row | {"problem": row["problem"].replace("equals 3.", "equals 4.")} for row in held]
    assert [read(a, "a", 1) in known for a in changed] == [a == b for a, b in zip(changed, held, strict=True)]


def test_sentences_that_state_nothing_make_no_other_problem():
    """Nor does a problem that the grammar does not read at all count as known, but for the same text."""
    (row,) = rows("test", 1)
    example, known = to_example(row, "held", 1), KnownProblems([to_example(row, "held", 1)])
    assert to_solved(row | {"problem": row["problem"] + " And then it rained."}, "a", 1) in known
    odd = row | {"question": "What rained?"}
    assert to_solved(odd, "a", 1) not in known
    assert to_solved(odd, "a", 1) in KnownProblems(
        [type(example)("n", row["problem"], odd["question"], "", example.cell, example.graph)]
    )


@pytest.mark.parametrize("kind", [PretrainDataModule, PromptDataModule])
def test_rows_in_both_are_counted_and_refused_unless_allowed(kind, tmp_path):
    held = rows("test")
    train = [*rows("train", 10), turned(held[3]), held[5], held[5]]
    files = Files(train=[write(tmp_path / "train.jsonl", train)])
    evaluated = {"files": [write(tmp_path / "held.jsonl", held)]}
    said = r"files\.train: 3 of 13 rows are problems of `held_out\.files` \(first: .*train\.jsonl, line 11\)"
    with pytest.raises(ValueError, match=said + r"; take them out, or set `data\.init_args\.held_out\.overlap: allow`\."):
        kind(None, "published", files=files, held_out=HeldOut(**evaluated))
    with pytest.warns(UserWarning, match=said):
        assert len(kind(None, "published", files=files, held_out=HeldOut(**evaluated, overlap="allow")).rows) == 13
    apart = Files(train=[write(tmp_path / "apart.jsonl", train[:10])])
    assert len(kind(None, "published", files=apart, held_out=HeldOut(**evaluated)).rows) == 10


def test_the_command_says_so_in_one_line(tmp_path, capsys):
    held = rows("test", 4)
    words = {
        "data.init_args.mixture": "null", "data.init_args.tokenizer": "published",
        "data.init_args.files.train": f"[{write(tmp_path / 'train.jsonl', held)}]",
        "data.init_args.held_out.files": f"[{write(tmp_path / 'held.jsonl', held)}]",
        "trainer.default_root_dir": str(tmp_path / "run"),
    }  # fmt: skip
    config = ["--config", "configs/experiment/quickstart_pretrain.yaml", "--config", "configs/trainer/cpu.yaml"]
    assert main.main(["fit", *config, *(word for key, value in words.items() for word in (f"--{key}", value))]) == 2
    assert "4 of 4 rows are problems of `held_out.files`" in capsys.readouterr().err.splitlines()[-1]


def test_an_unknown_answer_to_overlap_is_refused():
    with pytest.raises(ValueError, match=r"overlap='maybe' is unknown; choose from \['refuse', 'allow'\]"):
        HeldOut(overlap="maybe")
