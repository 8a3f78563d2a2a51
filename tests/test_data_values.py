"""Values of data modules that no other test fixes: which held-out problems there are, what is read of files, which documents
validation reads and how they are packed, and what loaders count and share."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from random import Random
from types import SimpleNamespace

import pytest
import torch

from datamodules import PretrainDataModule, PromptDataModule
from datamodules.files.jsonl import to_example
from datamodules.files.line_files import find_files
from datamodules.files.row_source import Solved, to_solved
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Cell, Component
from datamodules.problems.splits import canonical_hash
from datamodules.problems.synthesis import Synthesis
from datamodules.reasoning import HeldOut
from datamodules.reinforcement import ExperienceLoader
from datamodules.rows.documents import IGNORE, encode
from datamodules.rows.gold_documents import LABEL_KINDS
from datamodules.rows.mixture_counts import MixtureCounts
from datamodules.rows.packed_rows import PackedRows
from datamodules.rows.windows import ROWS, Packing, Windows, pack, pack_first
from tests_support import PLAIN

EASY = [Component("2-4", ["garden"])]
LENGTH = 128
REVERSE_ROW = {
    "problem": (
        "The number of roses exists, and its number is greater than 0. The number of lilies equals 2 plus the number of roses. "
        "The number of lilies equals 5."
    ),
    "question": "How many roses are there?",
    "solution": "Define roses as x; so x = x. Define lilies as L; so L = 2 + x. x + 2 = 5; so x = 3. Answer: 3.",
}


def held_out(bands, *, contexts=("garden",), **settings):
    return HeldOut(bands, contexts, **settings)


def prompts(bands, *, mixture=EASY, graph=PLAIN, contexts=("garden",), **held):
    return PromptDataModule(mixture, "garden", graph=graph, held_out=held_out(bands, contexts=contexts, **held))


def rows_data(*, tokenizer="garden", mixture=EASY, held=HeldOut(), **settings):
    settings = {"row_length": LENGTH, "batch_rows": 2, "validation_batches": 2, "graph": PLAIN} | settings
    return PretrainDataModule(mixture, tokenizer, held_out=held, **settings)


def process(rank, world):
    """As much of a Trainer as loaders ask for."""
    return SimpleNamespace(global_rank=rank, world_size=world, max_steps=3, accumulate_grad_batches=1)


def texts(split, count, data):
    """The token ids of the first documents of a split."""
    return [tuple(d.ids) for d in encode([data.synthesis.example(split, i) for i in range(count)], data.tokenizer)]


def documents_of(batch):
    """The token ids of the documents of a batch."""
    found = []
    for tokens, numbers in zip(batch.tokens_BT, batch.document_BT, strict=True):
        found += [tuple(tokens[numbers == n].tolist()) for n in range(1, int(numbers.max()) + 1)]
    return found


# --- held-out problems


def test_a_number_per_op_is_that_of_every_op():
    data = prompts({"ID": "3-4"}, problems=5, per_op=True)
    assert Counter(e.cell.op for e in data.held_out_examples("test", 5)) == {3: 5, 4: 5}


def test_problems_of_two_splits_are_kept_apart():
    data = prompts({"ID": "2-3"})
    for split in ("validation", "test", "validation"):
        assert [e.id.partition("-")[0] for e in data.held_out_examples(split, 5)] == [split] * 5


def test_held_out_problems_are_all_different_where_draws_repeat():
    """A split of the smallest cell holds few problems, so that the first 60 draws are not all different."""
    data = prompts({"ID": 2}, graph=GraphSpec(distractors=(0, 0), split_by="problem"))
    cell = Cell(2, "garden")
    drawn = {canonical_hash(data.held_out_synthesis.example("test", i, cell).graph) for i in range(60)}
    assert len(drawn) < 60
    assert len({canonical_hash(e.graph) for e in data.held_out_examples("test", 60)}) == 60


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_predict_reads_the_split_that_it_is_told(split):
    (batch,) = prompts({"ID": "2-3"}, problems=4, predict_split=split).predict_dataloader()
    assert [e.id.partition("-")[0] for e in batch.examples] == [split] * 4


def test_the_first_problems_of_training_are_all_different_where_draws_repeat():
    data = prompts({}, mixture=[Component("2", ["garden"])])
    drawn = [data.synthesis.example("train", i) for i in range(300)]
    assert len({canonical_hash(e.graph) for e in drawn}) < 300
    assert len({canonical_hash(e.graph) for e in data.first_examples(300)}) == 300


def test_letters_in_order_are_those_of_held_out_problems_too():
    data = PromptDataModule(EASY, "garden", random_letters=False, held_out=held_out({"ID": "2-4"}))
    for example in data.held_out_examples("test", 8):
        assert example.solution.partition(";")[0].endswith(" as A")


def test_a_problem_that_only_keeps_processes_in_step_is_marked():
    data = prompts({"ID": "2-3"}, problems=3, batch_size=1)
    data.trainer = process(0, 2)
    batches = list(data.test_dataloader())
    assert [batch.indices for batch in batches] == [[0], [1], [2], [0]]
    assert [batch.repeats for batch in batches] == [0, 0, 0, 1]


# --- files


def test_files_of_a_folder_come_in_the_order_of_their_names(tmp_path):
    for name in ("b", "c", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(REVERSE_ROW) + "\n", encoding="utf-8")
    assert [path.name for path in find_files([tmp_path])] == ["a.jsonl", "b.jsonl", "c.jsonl"]


@pytest.mark.parametrize("read", [to_solved, to_example])
def test_a_row_without_a_mode_has_that_of_its_text(read):
    assert read(REVERSE_ROW, "mine", 1).cell == Cell(3, "mine", "forwardreverse")
    forward = {
        "problem": "The number of roses equals 3. The number of lilies equals 2 plus the number of roses.",
        "question": "How many lilies are there?",
        "solution": "Define roses as R; so R = 3. Define lilies as L; so L = 2 + R = 2 + 3 = 5. Answer: 5.",
    }
    assert read(forward, "mine", 1).cell == Cell(3, "mine", "normalforward")


# --- packing


def test_documents_dropped_are_summed():
    counts = MixtureCounts([Cell(2, "garden")], None, "examples")
    for _ in range(2):
        counts.add(torch.tensor([0]), torch.tensor([30]), dropped=2)
    report = counts.report(counts.take())
    assert (report["documents"], report["tokens"], report["dropped"]) == (2, 60, 4)


@dataclass
class InTurn:
    """Documents of few operations and of many: 3 of 8 are long."""

    synthesis: Synthesis
    seed: int = 0

    def example(self, split, index):
        return self.synthesis.example(split, index, Cell(9 if index % 8 in (1, 4, 6) else 2, "garden"))


def test_documents_dropped_from_a_window_are_counted_once_for_all_its_batches(tokenizer):
    cells = [Cell(2, "garden"), Cell(9, "garden")]
    packing = Packing(long_documents="drop")
    windows = Windows(InTurn(Synthesis(None, PLAIN)), "train", tokenizer, cells, row_length=64, documents=8, packing=packing)
    assert (windows[0].dropped, len(windows[0].batch.tokens_BT)) == (3, 5)
    counts = MixtureCounts(cells, None, "examples")
    assert len(list(PackedRows(windows, batch_rows=2, batches=2, drawn=counts))) == 2
    assert counts.report(counts.take())["dropped"] == 3


@pytest.mark.parametrize(("fit", "rows"), [("best", [[0], [1, 2, 3]]), ("first", [[0, 3], [1, 2]])])
def test_a_prefix_is_packed_by_the_fit_that_is_asked_for(fit, rows):
    """Rows of 12: when the document of 1 comes, 4 are left beside that of 8, and 1 beside those of 6 and 5."""
    assert pack([8, 6, 5, 1], 12, fit=fit) == rows
    assert pack_first([8, 6, 5, 1], 12, 2, fit=fit) == rows


@dataclass
class AnyLength:
    """Documents of many different lengths."""

    seed: int = 0

    def example(self, split, index):
        words = "roses " * Random(index).randrange(1, 120)
        return Solved(words, "How many?", "So. Answer: 1.", Cell(2, "garden"))


@pytest.mark.parametrize("documents", [None, 60])
def test_windows_are_packed_by_the_fit_that_is_asked_for(documents, tokenizer):
    """Lengths in each row, of an endless source and of files."""
    documents_read = encode([AnyLength().example("train", i) for i in range(documents or 100)], tokenizer)
    lengths, found = [len(document.ids) for document in documents_read], {}
    for fit in ("best", "first"):
        cells, packing = [Cell(2, "garden")], Packing(fit)
        window = Windows(AnyLength(), "train", tokenizer, cells, row_length=160, documents=documents, packing=packing)[0]
        rows = [sorted(window.placed[window.placed[:, 0] == row, 2].tolist()) for row in range(len(window.batch.tokens_BT))]
        packed = pack(lengths, 160, fit=fit) if documents else pack_first(lengths, 160, ROWS, fit=fit)
        found[fit] = sorted(rows)
        assert found[fit] == sorted(sorted(lengths[i] for i in row) for row in packed)
    assert found["best"] != found["first"]


# --- loaders


def test_validation_reads_documents_of_its_split():
    data = rows_data()
    (packed,) = data.val_dataloader()
    found = {document for batch in packed for document in documents_of(batch)}
    assert len(found) >= 4
    assert found <= {*texts("validation", 150, data)}
    assert not found & {*texts("train", 150, data)}


def test_every_validation_reads_the_same_rows():
    (packed,) = rows_data().val_dataloader()
    first, second = ([batch.tokens_BT for batch in packed] for _ in range(2))
    assert len(first) == 2
    assert torch.equal(torch.cat(first), torch.cat(second))
    assert not torch.equal(*first)


def test_training_and_validation_are_packed_as_asked():
    """Most documents of 3 and 4 operations do not fit 75 tokens: an error, unless they are dropped."""
    data = rows_data(packing=Packing("first", "drop"), row_length=75)
    training, (validation,) = data.train_dataloader(), data.val_dataloader()
    assert training.windows.packing == validation.windows.packing == Packing("first", "drop")
    kept = [d for batch in (*islice(training, 2), *validation) for d in documents_of(batch)]
    assert kept and max(map(len, kept)) <= 75
    with pytest.raises(ValueError, match="does not fit a row of 75"):
        next(iter(rows_data(row_length=75).train_dataloader()))


def test_two_processes_read_what_one_does():
    whole = rows_data(batch_rows=4)
    whole.trainer = process(0, 1)
    parts = [rows_data(batch_rows=2) for _ in range(2)]
    for rank, data in enumerate(parts):
        data.trainer = process(rank, 2)
    for expected, first, second in zip(*(data.train_dataloader() for data in (whole, *parts)), strict=True):
        assert torch.equal(torch.cat([first.tokens_BT, second.tokens_BT]), expected.tokens_BT)


@pytest.mark.parametrize(("loss_on", "prompted"), [("all", True), ("solution", False)])
def test_gold_documents_have_a_loss_where_training_has_one(loss_on, prompted):
    _, gold, _ = rows_data(loss_on=loss_on, held=held_out({"ID": "2-4"}, validation_problems=4)).val_dataloader()
    kinds = torch.cat([batch.kind_BT[batch.labels_BT != IGNORE] for batch in gold])
    assert bool((kinds == LABEL_KINDS.index("prompt")).any()) == prompted
    assert (kinds != LABEL_KINDS.index("prompt")).any()


def test_gold_documents_name_their_contexts():
    contexts = ("garden", "orchestra")
    held = held_out({"ID": "2-4"}, contexts=contexts, validation_problems=6)
    data = rows_data(tokenizer="garden_orchestra", mixture=[Component("2-4", contexts)], held=held)
    _, gold, _ = data.val_dataloader()
    counted = Counter()
    for batch in gold:
        counted.update(batch.context_BT[batch.document_BT > 0].tolist())
    examples = data.held_out_examples("validation", 6)
    lengths = [len(document.ids) for document in encode(examples, data.tokenizer)]
    of = [sum(n for e, n in zip(examples, lengths, strict=True) if e.cell.context == name) for name in contexts]
    assert counted == {0: of[0], 1: of[1]} and min(of) > 0


class Collects:
    """Stands for a policy: a rollout is one minibatch, the numbers of its problems."""

    epochs = 1

    def collect(self, batch, more):
        return [batch.indices]


def test_a_rollout_uses_up_the_problems_of_all_processes():
    found = []
    for rank in range(2):
        data = PromptDataModule(EASY, "garden", prompts_per_rollout=3, graph=PLAIN)
        data.trainer = process(rank, 2)
        loader = ExperienceLoader(data, Collects(), batches=2)
        steps = iter(loader)
        found.append([next(steps)])
        assert loader.state_dict() == {"problems": 6, "used": 0, "held": [[]]}
        found[-1] += steps
    assert found == [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]
