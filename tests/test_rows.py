"""Training and RL prompts from JSONL rows that people have."""

import gzip
import json

import pytest
from lightning import Trainer

import main
from datamodules import MidtrainDataModule, PretrainDataModule, PromptDataModule
from datamodules.files.jsonl import to_example, to_row
from datamodules.files.row_source import Files, RowSource
from datamodules.problems.mixture import Cell, Component, Mixture
from datamodules.problems.splits import canonical_hash
from datamodules.problems.synthesis import Synthesis
from datamodules.reasoning import HeldOut
from tests_support import PLAIN, TINY

HARBOUR = {  # a row as people have it: no op, mode, template, id
    "problem": "The number of canoes equals 3. The number of kayaks equals 2 plus the number of canoes.",
    "question": "How many kayaks are there?",
    "solution": "Define canoes as A; so A = 3. Define kayaks as B; so B = 2 + A = 2 + 3 = 5. Answer: 5.",
}


@pytest.fixture
def examples():
    synthesis = Synthesis(Mixture([Component("2-4", ["garden"])]), PLAIN)
    return [synthesis.example("train", i) for i in range(12)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.fixture
def folder(tmp_path, examples):
    rows = [to_row(example) for example in examples]
    write(tmp_path / "rows/a.jsonl", rows[:5])
    write(tmp_path / "rows/deep/b.jsonl.gz", [*rows[5:], HARBOUR])
    return tmp_path / "rows"


def test_every_row_is_read_once_before_any_is_read_again(folder, examples):
    source = RowSource([folder], seed=3)
    assert len(source) == 13
    passes = [[source.example("train", 13 * n + i) for i in range(13)] for n in range(3)]
    texts = [[(text.prompt, text.response) for text in texts] for texts in passes]
    assert sorted(texts[0]) == sorted(texts[1]) == sorted(texts[2])
    assert {(example.prompt, example.response) for example in examples} < set(texts[0])
    assert texts[0] != texts[1] != texts[2]
    assert [source.example("train", i) for i in range(13)] == passes[0]
    assert [RowSource([folder], seed=4).example("train", i) for i in range(13)] != passes[0]


def test_a_bare_row_gets_its_cell_from_its_text(tmp_path):
    write(tmp_path / "harbour.jsonl", [HARBOUR])
    solved = RowSource([tmp_path]).example("train", 0)
    assert solved.cell == Cell(3, "harbour", "normalforward")
    assert solved.prompt == f"<question> {HARBOUR['problem']} {HARBOUR['question']} </question> <solution>"
    assert solved.response.endswith("= 5. </solution> <answer> 5 </answer>")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "delimiter|property name|Expecting"), ("[]", "expected an object"), ("{}", "expected `problem`"),
        (json.dumps(HARBOUR | {"question": 3}), "expected `question`"),
        (json.dumps(HARBOUR | {"solution": None}), "expected `solution`"),
        (json.dumps(HARBOUR | {"solution": "It is 5."}), "ends in `Answer: N.`"),
        (json.dumps(HARBOUR | {"problem": "There are some canoes."}), "."),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_or_counted(tmp_path, folder, row, message):
    path = tmp_path / "rows/bad.jsonl"
    path.write_text("\n" + json.dumps(HARBOUR) + "\n" + row + "\n")
    with pytest.raises(ValueError, match=rf"bad\.jsonl, line 3: .*({message})"):
        RowSource([folder])
    source = RowSource([folder], bad_rows="skip")
    assert (len(source), source.skipped) == (14, 1)
    with pytest.warns(UserWarning, match="1 bad rows left out, 14 read"):
        data = PretrainDataModule(None, "garden", files=Files([str(folder)], bad_rows="skip"))
    assert len(data.source) == 14


def test_files_without_a_row_or_a_misspelt_choice_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n[]\n")
    with pytest.raises(ValueError, match=r"empty\.jsonl.*no usable row; 1 were skipped"):
        RowSource([tmp_path], bad_rows="skip")
    with pytest.raises(ValueError, match="bad_rows='ignore' is unknown"):
        RowSource([tmp_path], bad_rows="ignore")
    with pytest.raises(ValueError, match="names no file"):
        RowSource([tmp_path / "nowhere.jsonl"])
    with pytest.raises(ValueError, match="nothing to train on"):
        PretrainDataModule(None, "garden")
    write(tmp_path / "harbour.jsonl", [HARBOUR])
    with pytest.raises(ValueError, match=r"predict_split: mixture needs `data\.init_args\.mixture`"):
        PretrainDataModule(
            None, "garden", files=Files([str(tmp_path / "harbour.jsonl")]), held_out=HeldOut(predict_split="mixture")
        )
    with pytest.raises(ValueError, match="replay"):
        MidtrainDataModule(None, "garden", replay=[Component("2", ["garden"])], replay_share=0.5)


def test_problems_of_rows_have_the_graphs_of_their_texts(folder, examples):
    source = RowSource([folder], seed=0, read=to_example)
    found = {problem.id: problem for problem in (source.example("train", i) for i in range(13))}
    for example in examples:
        assert canonical_hash(found[example.id].graph) == canonical_hash(example.graph)
    assert found["b-8"].graph.answer == 5


@pytest.mark.parametrize("processes", [1, 2])
def test_prompts_of_rollouts_are_the_rows_once_each(folder, examples, processes):
    seen = []
    for rank in range(processes):
        data = PromptDataModule(None, "garden", files=Files([str(folder)]), prompts_per_rollout=3)
        data.trainer = type("Trainer", (), {"world_size": processes, "global_rank": rank})
        for first in range(0, 12, 3 * processes):
            seen += [example.problem for example in data.prompts(first).examples]
        assert int(data.drawn.counts[:-1, 0].sum()) == 12 // processes
    assert len(set(seen)) == 12


def test_problems_of_files_are_not_chosen_by_cell(folder):
    data = PromptDataModule(None, "garden", files=Files([str(folder)]))
    with pytest.raises(ValueError, match="no cells to choose from"):
        data.focus(data.cells[:1])


def test_training_reads_each_row_of_files_once_in_a_pass(tmp_path, folder):
    """The validation loss is measured on files of its own."""
    held = tmp_path / "held/rows.jsonl"
    write(held, [HARBOUR])
    data = PretrainDataModule(None, "garden", files=Files([str(folder)], [str(held)]), row_length=256, batch_rows=2)
    data.trainer = Trainer(max_steps=60, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    data.trainer.strategy.connect(None)
    found = 0
    for batch in data.train_dataloader():
        found += int(batch.document_BT.amax(dim=1).sum())
    counts = data.drawn.take()[:-1, 0].tolist()
    assert sum(counts) == found
    assert min(counts) >= 256 // 13  # 256 documents are packed together, all of them
    (validation,) = data.val_dataloader()
    texts = data.tokenizer.batch_decode(next(iter(validation)).tokens_BT, skip_special_tokens=True)
    assert all("How many kayaks are there?" in text for text in texts)


def test_the_front_door_trains_on_files_and_names_a_bad_row(tmp_path, folder, capsys):
    small = {
        "model.init_args.architecture": json.dumps(TINY), "data.init_args.mixture": "null", "data.init_args.batch_rows": "2",
        "data.init_args.held_out": '{"bands": {}}', "trainer.max_steps": "2", "trainer.val_check_interval": "2",
        "trainer.enable_progress_bar": "false", "trainer.precision": "32-true", "trainer.log_every_n_steps": "1",
    }  # fmt: skip
    arguments = ["fit", "--config", "configs/experiment/quickstart_pretrain.yaml"]
    arguments += [word for key, value in small.items() for word in (f"--{key}", value)]
    arguments += ["--data.init_args.files.train", json.dumps([str(folder)]), "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main.main(arguments) == 0
    record = json.loads((tmp_path / "run/mixture.json").read_text())
    assert record["documents"] > 0 and record["distance"] is None
    assert {cell["context"] for cell in record["cells"]} == {"garden", "b"}

    (folder / "bad.jsonl").write_text("[]\n")
    assert main.main(arguments) == 2
    assert "bad.jsonl, line 1: expected an object" in capsys.readouterr().err
    assert main.main([*arguments, "--data.init_args.files.bad_rows", "skip"]) == 0
