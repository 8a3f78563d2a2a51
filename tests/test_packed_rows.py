"""Packing, windows, and which process reads which row."""

import json
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.problems.mixture import Cell, Mixture, read_mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import Document, collate, encode, token_ids
from datamodules.rows.mixture_counts import MixtureCounts
from datamodules.rows.packed_rows import PackedRows
from datamodules.rows.tokenizer import load_tokenizer
from datamodules.rows.windows import ROWS, STRIDE, Packing, Windows, pack, pack_first

LENGTH = 128


@pytest.mark.parametrize("fit", ["best", "first"])
@given(lengths=st.lists(st.integers(1, 64), max_size=60))
def test_packing_keeps_every_document_whole(fit, lengths):
    rows = pack(lengths, 64, fit=fit)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 64 for row in rows)


@pytest.mark.parametrize(("fit", "choose"), [("best", min), ("first", lambda fitting: fitting[0])])
@given(lengths=st.lists(st.integers(1, 64), max_size=60))
def test_packing_puts_the_longest_first_where_it_fits(fit, choose, lengths):
    """Oracle: look at every row for every document; rows as multisets of lengths."""
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [(room, row) for row, room in enumerate(64 - sum(row) for row in rows) if room >= length]
        if not fitting:
            fitting = [(64, len(rows))]
            rows.append([])
        rows[choose(fitting)[1]].append(length)
    found = [[lengths[i] for i in row] for row in pack(lengths, 64, fit=fit)]
    assert sorted(found) == sorted(rows)


@given(lengths=st.lists(st.integers(1, 64), max_size=60), rows=st.integers(1, 8))
def test_a_window_takes_the_first_documents_that_its_rows_hold(lengths, rows):
    packed = pack_first(lengths, 64, rows)
    kept = sorted(i for row in packed for i in row)
    assert len(packed) == rows
    assert kept == list(range(len(kept)))
    assert len(kept) == len(lengths) or len(pack(lengths[: len(kept) + 1], 64)) > rows


def test_packing_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="row_length"):
        pack([65], 64)


@dataclass
class Ends:
    """A source with an end, as rows of files have one per pass."""

    synthesis: Synthesis
    documents: int
    seed: int = 0

    def example(self, split, index):
        return self.synthesis.example(split, index % self.documents)


class Watched(Windows):
    """Remembers which windows were made."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.made = []

    def __getitem__(self, number):
        self.made.append(number)
        return super().__getitem__(number)


@pytest.fixture
def windows(synthesis, tokenizer):
    def make(*, finite=False, seed=0, **settings):
        source = Ends(synthesis, 50, seed) if finite else replace(synthesis, seed=seed)
        settings = {"row_length": LENGTH, "documents": 40 if finite else None} | settings
        return Watched(source, "train", tokenizer, synthesis.mixture.cells, **settings)

    return make


def all_rows(windows, count):
    """Oracle: tokens of the rows of all windows, one after the other."""
    rows, number = [], 0
    while len(rows) < count:
        rows += windows[number].batch.tokens_BT.tolist()
        number += 1
    return rows


@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize(("world", "batch_rows"), [(1, 5), (2, 3), (3, 16), (2, 40)])
def test_processes_share_the_rows_without_overlap_or_gap(windows, finite, world, batch_rows):
    step, batches = world * batch_rows, 150 // (world * batch_rows) + 1
    expected = all_rows(windows(finite=finite), batches * step)
    for rank in range(world):
        loader = PackedRows(windows(finite=finite), batch_rows=batch_rows, batches=batches, rank=rank, world=world)
        for number, batch in enumerate(loader):
            first = number * step + rank * batch_rows
            assert batch.tokens_BT.tolist() == expected[first : first + batch_rows]


def test_a_process_makes_only_windows_that_it_reads(windows):
    """Whole windows go round; a window of files is made by all, since only making it says how many rows it has."""
    made = []
    for rank in (0, 1):
        of_rank = windows()
        list(PackedRows(of_rank, batch_rows=2 * ROWS, batches=2, rank=rank, world=2))
        made.append(of_rank.made)
    assert made == [[0, 1, 4, 5], [2, 3, 6, 7]]


@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize("stop", [1, 8, 11, 16, 21])
def test_any_number_of_workers_and_processes_goes_on_where_one_stopped(windows, finite, stop):
    """Oracle: the whole sequence. The state is one integer, the same on all processes."""
    expected = all_rows(windows(finite=finite), 4 * 26)
    ranks = [PackedRows(windows(finite=finite), batch_rows=2, batches=30, rank=rank, world=2) for rank in (0, 1)]
    for rank in ranks:
        assert len(list(islice(iter(rank), stop))) == stop
    assert ranks[0].state_dict() == ranks[1].state_dict()
    for workers in (0, 2):
        resumed = PackedRows(windows(finite=finite), batch_rows=4, batches=26 - stop, workers=workers)
        resumed.load_state_dict(json.loads(json.dumps(ranks[0].state_dict())))
        assert [row for batch in resumed for row in batch.tokens_BT.tolist()] == expected[4 * stop : 4 * 26]


@pytest.mark.parametrize("repeat", [True, False])
def test_validation_repeats_and_training_goes_on(windows, repeat):
    loader = PackedRows(windows(), batch_rows=4, batches=2, repeat=repeat)
    first, second = ([b.tokens_BT.tolist() for b in loader] for _ in range(2))
    assert (first == second) is repeat


def test_workers_leave_the_random_numbers_of_training_alone(windows):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(PackedRows(windows(), batch_rows=4, batches=2, workers=1))
    assert torch.equal(before, torch.get_rng_state())


def test_rows_hold_whole_documents_and_shifted_labels(windows, synthesis, tokenizer):
    window = windows()[3]
    batch = window.batch
    documents = encode([synthesis.example("train", 3 * STRIDE + i) for i in range(len(window.placed))], tokenizer)
    found = []
    for tokens, labels, document, position in zip(
        batch.tokens_BT, batch.labels_BT, batch.document_BT, batch.position_BT, strict=True
    ):
        for number in range(1, int(document.max()) + 1):
            here = document == number
            found.append(tokens[here].tolist())
            assert position[here].tolist() == list(range(int(here.sum())))
            assert labels[here].tolist() == [*tokens[here].tolist()[1:], -100]
        assert (tokens[document == 0] == tokenizer.pad_token_id).all()
    assert sorted(found) == sorted(d.ids for d in documents)  # the first ones, each once
    assert (batch.labels_BT[batch.document_BT == 0] == -100).all()


def test_loss_on_the_solution_begins_after_the_prompt(windows, tokenizer):
    batch = windows(solution_only=True)[0].batch
    solution = tokenizer.convert_tokens_to_ids("<solution>")
    for row in range(4):
        here = batch.document_BT[row] == 1
        first = batch.tokens_BT[row][here].tolist().index(solution)
        assert (batch.labels_BT[row][here][:first] == -100).all()
        assert (batch.labels_BT[row][here][first:-1] >= 0).all()


def test_documents_longer_than_a_row_are_refused_or_dropped_and_counted(windows, synthesis, tokenizer):
    lengths = [len(d.ids) for d in encode([synthesis.example("train", i) for i in range(40)], tokenizer)]
    short = sorted(lengths)[30]
    with pytest.raises(ValueError, match="long_documents"):
        windows(finite=True, row_length=short)[0]
    window = windows(finite=True, row_length=short, packing=Packing(long_documents="drop"))[0]
    assert window.dropped == sum(length > short for length in lengths) > 0
    assert sorted(window.placed[:, 2].tolist()) == sorted(length for length in lengths if length <= short)
    with pytest.raises(ValueError, match="no document fits"):
        windows(row_length=10, packing=Packing(long_documents="drop"))[0]
    with pytest.raises(ValueError, match="no document fits"):
        next(
            iter(PackedRows(windows(finite=True, row_length=10, packing=Packing(long_documents="drop")), batch_rows=2, batches=1))
        )


def test_another_seed_is_another_order_of_the_same_rows(windows):
    one, same, other = (windows(finite=True, seed=seed)[0].batch.tokens_BT.tolist() for seed in (0, 0, 1))
    assert one == same != other
    assert sorted(one) == sorted(other)


def test_token_ids_are_those_of_the_tokenizer(synthesis, tokenizer):
    texts = [synthesis.example("train", i).prompt for i in range(20)]
    assert token_ids(texts, tokenizer) == tokenizer(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("fit", ["best", "first"])
def test_rows_of_the_paper_are_97_percent_full_and_of_its_mixture(fit):
    mixture = Mixture(read_mixture("pretrain_20_30_50"))
    windows = Windows(
        Synthesis(mixture), "train", load_tokenizer("published"), mixture.cells, row_length=2048, packing=Packing(fit)
    )
    found = [windows[number] for number in range(8)]
    tokens = sum(int((window.batch.document_BT > 0).sum()) for window in found)
    assert tokens / (8 * ROWS * 2048) >= 0.97
    counts = MixtureCounts(mixture.cells, mixture.weights, "examples")
    for window in found:
        counts.add(*window.placed[:, 1:].unbind(1))
    assert counts.report(counts.counts)["tokens"] == tokens
    short = sum(n for cell, n in zip(mixture.cells, counts.counts[:-1, 0].tolist(), strict=True) if cell.op <= 4)
    assert short / int(counts.counts[:-1, 0].sum()) == pytest.approx(0.2, abs=0.03)


def test_counts_are_those_of_the_batches_handed_out(windows, synthesis, tokenizer):
    """Oracle: each document of each batch, looked up by its ids."""
    cells = synthesis.mixture.cells
    known = {}
    for number in range(3):
        texts = [synthesis.example("train", number * STRIDE + i) for i in range(80)]
        known |= {tuple(d.ids): text.cell for d, text in zip(encode(texts, tokenizer), texts, strict=True)}
    expected: dict[Cell, list[int]] = {cell: [0, 0] for cell in cells}
    total = MixtureCounts(cells, synthesis.mixture.weights, "examples")
    for rank in (0, 1):
        drawn = MixtureCounts(cells, synthesis.mixture.weights, "examples")
        for batch in PackedRows(windows(), batch_rows=5, batches=7, rank=rank, world=2, drawn=drawn):
            for tokens, document in zip(batch.tokens_BT, batch.document_BT, strict=True):
                for number in range(1, int(document.max()) + 1):
                    ids = tuple(tokens[document == number].tolist())
                    expected[known[ids]][0] += 1
                    expected[known[ids]][1] += len(ids)
        total.counts += drawn.take()
        assert not drawn.counts.any()
    assert total.counts[:-1].tolist() == list(expected.values())
    report = total.report(total.counts)
    shares = [row["share_of_examples"] for row in report["cells"]]
    assert sum(shares) == pytest.approx(1)
    assert report["distance"] == pytest.approx(sum(abs(share - 0.25) for share in shares) / 2)


def test_parts_of_a_batch_are_its_rows_each_with_its_own_edges():
    documents = [Document([5, 6, 7], 1), Document([8, 9], 1), Document([4] * 6, 2)]
    batch = collate([documents[:2], documents[2:], []], 8, 0, solution_only=False)
    batch.edges_PD = torch.arange(6).view(2, 3)
    first, second = batch.parts(2)
    assert torch.equal(torch.cat([first.tokens_BT, second.tokens_BT]), batch.tokens_BT)
    assert torch.equal(torch.cat([first.position_BT, second.position_BT]), batch.position_BT)
    assert (first.edges_PD.tolist(), second.edges_PD.tolist()) == ([[0, 1, 2]], [[3, 4, 5]])


def test_all_of_a_batch_is_pinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = collate([[Document([5, 6, 7], 1)]], 4, 0, solution_only=False)
    assert torch.equal(batch.pinned().tokens_BT, batch.tokens_BT + 1)
    assert batch.pinned().edges_PD is None
    batch.edges_PD = torch.zeros(1, 2)
    assert torch.equal(batch.pinned().edges_PD, torch.ones(1, 2))


def test_rows_hold_as_many_long_documents_as_the_page_says():
    """Documents are taken until the next does not fit, which is more often a long one: docs/corpus.md."""
    draw, drawn, packed = Random(0), [], []
    for _ in range(1000):
        lengths = [draw.choice((60, 230)) for _ in range(32 * 256 // 60)]
        fitting = [length for length, total in zip(lengths, accumulate(lengths), strict=True) if total <= 32 * 256]
        packed += [fitting[document] for row in pack_first(fitting, 256, 32) for document in row]
        drawn += lengths
    assert drawn.count(230) / len(drawn) == pytest.approx(0.5, abs=0.005)
    assert packed.count(230) / len(packed) == pytest.approx(0.494, abs=0.004)
