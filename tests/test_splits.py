"""Splits: no problem stands in two up to sentence order, nor up to names where a cell has many structures."""

import json
import re
from collections import Counter
from hashlib import blake2b
from itertools import product
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from benchmarks.split_report import SPECS
from datamodules import PromptDataModule
from datamodules.problems.context import Context, load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Cell, Component, Mixture
from datamodules.problems.sampler import sample_graph
from datamodules.problems.splits import (
    ENOUGH_STRUCTURES,
    SPLITS,
    canonical_hash,
    most_different,
    names_count,
    needed_hash,
    split_hash,
    split_of,
    structure_hash,
    structures,
)
from datamodules.problems.synthesis import Synthesis
from datamodules.reasoning import HeldOut
from grammar import Graph, Quantity, parse_problem, render_problem

PUBLISHED = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")
QUICKSTART = SPECS["quickstart"]
BARE = GraphSpec(distractors=(0, 0))


def up_to_order(example) -> str:
    """Oracle: a problem up to sentence order, from its text."""
    return "\n".join((*sorted(example.problem.strip().removesuffix(".").split(". ")), example.question))


def up_to_names(example) -> bytes:
    """Oracle: a key that problems share which differ in names and sentence order alone, from the text.

    Names are coloured by the sentences they stand in, over and over: what the sentence says with colours for names. Names of
    one place are tied by the totals of that place. Summands are put in order, as their order says nothing.
    """
    name = r"(?:number of |(?=total number of |average number of ))(.+?)"
    cut = re.compile(rf"(?:The|the) {name}(?= equals| exists| is greater|, and the |, the | and the |, and|$)")
    sentences = example.problem.strip().removesuffix(".").split(". ")
    read = [([m[1] for m in cut.finditer(s)], cut.sub("N", s)) for s in sentences]
    asked = re.sub(r"^How many (.+?) (?:does (.+) have|are there)\?$", r"\1 in \2", example.question).removesuffix(" in ")
    asked = re.sub(r"^What is the (.+)\?$", r"\1", asked)
    names = {n for said, _ in read for n in said} | {asked}
    place = {n: n.rpartition(" in ")[2] if " in " in n else None for n in names}
    summed = {place[n] for n in names if n.startswith("total ")}
    colour = {n: n.split(" ")[0] if n.startswith(("total ", "average ")) else "" for n in names}
    colour[asked] += "?"
    for _ in range(len(names)):
        seen = {n: [] for n in names}
        for said, form in read:
            subject, *rest = (colour[n] for n in said)
            if "difference" not in form:
                rest.sort()
            for role, n in enumerate(said):
                seen[n].append(repr((form, subject, rest, 0 if role == 0 else said.index(n) if "difference" in form else 1)))
        for n in names:
            if place[n] in summed:
                seen[n] += [f"beside {colour[m]}" for m in names if place[m] == place[n]]
        new = {n: blake2b(repr((colour[n], sorted(seen[n]))).encode(), digest_size=8).hexdigest() for n in names}
        if len(set(new.values())) == len(set(colour.values())):
            colour = new
            break
        colour = new
    return blake2b(repr((sorted(colour.values()), len(sentences))).encode(), digest_size=16).digest()


def renamed(graph: Graph, context: Context, rng: Random) -> Graph:
    """The same problem in other words: items and places permuted, sentences and summands in another order."""
    words = {}
    for pool in ([i for g in context.items for i in g], [p for g in context.places for p in g]):
        words |= dict(zip(pool, rng.sample(pool, len(pool)), strict=True))
    pattern = re.compile("|".join(sorted(map(re.escape, words), key=len, reverse=True)))
    statements = []
    for s in rng.sample(graph.statements, len(graph.statements)):
        parents = s.parents if s.rule == "difference" else tuple(rng.sample(s.parents, len(s.parents)))
        name, *parents = (pattern.sub(lambda m: words[m[0]], n) for n in (s.name, *parents))
        statements.append(Quantity(name, s.rule, tuple(parents), s.constant, s.scale))
    return Graph(tuple(statements), pattern.sub(lambda m: words[m[0]], graph.question))


def test_canonical_hash_forgets_the_order_of_sentences_and_nothing_else():
    rng = Random(0)
    for seed in range(50):
        graph = sample_graph(2 + seed % 19, load_context("crazy_zootopia"), GraphSpec(), Random(seed)).graph
        turned = Graph(tuple(rng.sample(graph.statements, len(graph.statements))), graph.question)
        assert canonical_hash(turned) == canonical_hash(graph)
        assert canonical_hash(Graph(graph.statements[1:], graph.question)) != canonical_hash(graph)


@pytest.mark.parametrize("depth", [2, 3])
def test_structure_hash_forgets_names_too(depth):
    rng = Random(0)
    hashes = set()
    for seed in range(200):
        spec, context = GraphSpec(depth=depth, distractors=(2, 5)), load_context(PUBLISHED[seed % 3])
        graph = sample_graph(5 + seed % 16, context, spec, Random(seed), reverse=seed % 2 == 0).graph
        other = parse_problem(*render_problem(renamed(graph, context, rng)))
        assert structure_hash(other) == structure_hash(graph)
        assert canonical_hash(other) != canonical_hash(graph)
        hashes.add(structure_hash(graph))
    assert len(hashes) == 200


def test_structure_hash_sees_numbers_and_who_uses_what():
    base = "The number of a equals 2. The number of b equals 2. "
    base += "The number of c equals the sum of the number of a and the number of {}. "
    asked = "The number of d equals {} plus the number of c. How many d are there?"
    hashes = {
        structure_hash(parse_problem(text))
        for text in (
            (base + asked).format("b", 1),
            (base + asked).format("b", 2),
            (base + asked).format("b", 1).replace("plus", "times"),
            (base + asked).format("b", 1).replace("equals 2", "equals 3", 1),
            (base + asked).format("b", 1).replace("How many d", "How many c"),
            (base + "The number of e equals the number of a. " + asked).format("b", 1),
        )
    }
    assert len(hashes) == 6


def cells(ops, modes=MODES, contexts=PUBLISHED):
    return [Cell(op, context, mode) for op, context, mode in product(ops, contexts, modes)]


def assert_apart(spec: GraphSpec, chosen: list[Cell], counts: dict[str, int]) -> tuple[int, Counter]:
    """Draws `counts` examples of each split from the cells in turn; returns how many, and how many cells ignore names."""
    synthesis = Synthesis(Mixture([Component("2", ["garden"])]), spec)
    where: dict[str | bytes, str] = {}
    kinds: Counter = Counter()
    for split, count in counts.items():
        for index in range(count):
            cell = chosen[index % len(chosen)]
            example = synthesis.example(split, index, cell)
            small = names_count(cell.op, load_context(cell.context), spec, reverse=cell.mode == MODES[1])
            keys = [up_to_order(example)] if small else [up_to_order(example), up_to_names(example)]
            kinds[small] += 1
            for key in keys:
                assert where.setdefault(blake2b(repr(key).encode(), digest_size=12).digest(), split) == split, example
    return sum(counts.values()), kinds


def test_no_look_alikes_stand_in_two_splits():
    assert_apart(GraphSpec(), cells([2, 3, 6]), {"train": 1500, "validation": 150, "test": 150})
    assert_apart(BARE, cells([5, 6], modes=MODES[:1]), {"train": 1500, "validation": 150, "test": 150})
    _, kinds = assert_apart(QUICKSTART, cells([2, 4, 8], MODES[:1], ["garden"]), {"train": 900, "validation": 60, "test": 60})
    assert kinds[True] == 2 * kinds[False]


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_no_look_alikes_stand_in_two_splits_of_two_hundred_thousand():
    """Most of them of few operations, where problems come close to one another."""
    drawn = 0
    for spec, chosen, train, held in (
        (GraphSpec(), cells([2, 3, 4]), 60_000, 4_000),
        (GraphSpec(), cells(range(5, 21)), 26_000, 1_500),
        (BARE, cells([2, 3, 4, 5]), 60_000, 4_000),
        (QUICKSTART, cells(range(2, 11), MODES[:1], ["garden"]), 36_000, 4_000),
    ):
        count, _ = assert_apart(spec, chosen, {"train": train, "validation": held, "test": held})
        drawn += count
    assert drawn >= 200_000


def enumerated(op: int, spec: GraphSpec, context: str, *, reverse: bool, draws: int) -> int:
    """Oracle: different structures among many draws; no more than there are."""
    rng = Random(op)
    drawn = (sample_graph(op, load_context(context), spec, rng, reverse=reverse).graph for _ in range(draws))
    return len({structure_hash(graph) for graph in drawn})


@pytest.mark.parametrize(
    ("op", "spec", "context", "reverse"),
    [(2, BARE, "hospital_wards", False), (3, BARE, "hospital_wards", False), (4, BARE, "crazy_zootopia", False),
     (2, BARE, "crazy_zootopia", True), (3, BARE, "crazy_zootopia", True), (4, QUICKSTART, "garden", False),
     (5, QUICKSTART, "garden", False), (6, QUICKSTART, "garden", False)],
)  # fmt: skip
def test_a_cell_that_keeps_names_has_few_structures(op, spec, context, reverse):
    bound = structures(op, load_context(context), spec, reverse=reverse)
    assert 0 < enumerated(op, spec, context, reverse=reverse, draws=3000) <= bound < ENOUGH_STRUCTURES


def test_structures_of_the_smallest_cell_are_counted_exactly():
    """Two operations without distractors: the total of one item, or a copy, of one of four numbers."""
    assert structures(2, load_context("crazy_zootopia"), BARE, reverse=False) == 8
    assert enumerated(2, BARE, "crazy_zootopia", reverse=False, draws=2000) == 8


def test_more_operations_never_mean_fewer_structures():
    for spec, context in ((BARE, "crazy_zootopia"), (QUICKSTART, "garden"), (GraphSpec(distractors=(0, 1)), "garden")):
        counts = [structures(op, load_context(context), spec, reverse=False) for op in range(2, 30)]
        assert counts == sorted(counts)
        assert counts[-1] == ENOUGH_STRUCTURES


def test_published_cells_all_ignore_names_by_default():
    for op, name, reverse in product(range(2, 21), PUBLISHED, (False, True)):
        assert not names_count(op, load_context(name), GraphSpec(), reverse=reverse)


def test_the_report_lists_exactly_the_cells_that_keep_names_and_those_split_by_what_is_needed():
    report = json.loads((Path(__file__).parent.parent / "docs/data/splits.json").read_text(encoding="utf-8"))
    assert list(report) == list(SPECS)
    for title, rows in report.items():
        for cell, row in rows.items():
            names, _, mode = cell.partition("; ")
            small, first = row["names count"], row["needed part from op"]
            for name, op in product(names.split(", "), range(2, 21)):
                kept = names_count(op, load_context(name), SPECS[title], reverse=mode == "reverse")
                assert kept == (str(op) in small), (title, cell, op)
                by = split_hash(op, load_context(name), SPECS[title], reverse=mode == "reverse")
                assert (by is needed_hash) == (op >= first), (title, cell, op)


def test_splits_have_their_shares():
    graphs = (sample_graph(6, load_context("crazy_zootopia"), GraphSpec(), Random(i)).graph for i in range(3000))
    found = Counter(split_of(structure_hash(graph)) for graph in graphs)
    for split, share in SPLITS.items():
        assert found[split] / 3000 == pytest.approx(share, abs=0.02)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="choose one of"):
        Synthesis(Mixture([Component("2", ["garden"])])).example("training", 0)


def needed_part(example):
    """Oracle: the problem without the sentences about what its answer does not need."""
    graph = parse_problem(example.problem, example.question, modulus=example.graph.modulus)
    lines = example.problem.strip().removesuffix(".").split(". ")
    kept = [line for line, s in zip(lines, graph.statements, strict=True) if s.name in graph.order]
    return SimpleNamespace(problem=". ".join(kept) + ".", question=example.question)


@pytest.mark.parametrize(("op", "mode"), [(6, "normalforward"), (4, "forwardreverse"), (7, "forwardreverse")])
def test_what_a_held_out_answer_needs_stands_in_no_training_problem_if_split_by_it(op, mode):
    def keys(split, context, count):
        found = (data.example(split, i, Cell(op, context, mode)) for i in range(count))
        return [up_to_names(needed_part(example)) for example in found]

    data = Synthesis(None)
    trained = {*keys("train", PUBLISHED[0], 1500)}
    assert not trained & {*keys("test", PUBLISHED[0], 100), *keys("validation", "hospital_wards", 100)}
    data = Synthesis(None, GraphSpec(split_by="problem"))  # by the whole problem they stand there
    assert {*keys("train", PUBLISHED[0], 1500)} & {*keys("test", "hospital_wards", 100)}


def test_the_needed_hash_forgets_distractors_and_only_them():
    text = "The number of roses equals 3. The number of lilies equals 2 plus the number of roses."
    more = f"{text} The number of poppies equals 4. The number of tulips equals the number of roses."
    asked = "How many lilies are there?"
    assert needed_hash(parse_problem(more, asked)) == needed_hash(parse_problem(text, asked))
    assert structure_hash(parse_problem(more, asked)) != structure_hash(parse_problem(text, asked))
    other = parse_problem(more.replace("3", "4"), asked)
    assert needed_hash(other) != needed_hash(parse_problem(more, asked))
    unknown = (
        "The number of roses exists, and its number is greater than 0. "
        "The number of lilies equals 2 plus the number of roses. The number of lilies equals {}."
    )
    asks = "How many roses are there?"
    known = [needed_hash(parse_problem(unknown.format(k), asks)) for k in (5, 6)]
    assert known[0] != known[1]  # the number that is known is part of it
    assert needed_hash(parse_problem(f"The number of poppies equals 4. {unknown.format(5)}", asks)) == known[0]


@pytest.mark.parametrize(
    ("name", "reverse", "first"), [("crazy_zootopia", False, 6), ("crazy_zootopia", True, 4), ("garden", False, 6)]
)
def test_cells_with_enough_structures_are_split_by_what_is_needed(name, reverse, first):
    spec, context = GraphSpec(), load_context(name)
    chosen = [split_hash(op, context, spec, reverse=reverse) for op in range(2, 21)]
    assert chosen == [structure_hash] * (first - 2) + [needed_hash] * (21 - first)
    assert {split_hash(op, context, GraphSpec(split_by="problem"), reverse=reverse) for op in range(2, 21)} == {structure_hash}


def test_held_out_problems_are_spread_over_what_they_need():
    def largest(split_by):
        held_out = HeldOut(bands={"a": "6"}, contexts=PUBLISHED, problems=60)
        mixture, graph = [Component("6", PUBLISHED)], GraphSpec(split_by=split_by)
        data = PromptDataModule(mixture, "published", graph=graph, held_out=held_out)
        found = data.held_out_examples("test", 60)
        assert len({canonical_hash(example.graph) for example in found}) == 60
        return max(Counter(needed_hash(example.graph) for example in found).values())

    assert largest("needed") <= 3


def test_the_first_of_each_part_come_before_the_second():
    text = "The number of roses equals {}. The number of lilies equals {}."
    graphs = [
        parse_problem(text.format(a, b), "How many roses are there?") for a, b in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1))
    ]
    assert most_different(graphs, "cccccc", 3) == {0, 3, 5}
    assert most_different(graphs, "cccccc", 4) == {0, 1, 3, 5}
    assert most_different(graphs, "cccccc", 9) == {*range(6)}
    # two cells, of which the second has fewer: as many from each, then what is left of the first
    assert most_different(graphs, "cccccd", 2) == {0, 5}
    assert most_different(graphs, "cccccd", 4) == {0, 1, 3, 5}


@pytest.mark.parametrize("split_by", ["needed", "problem"])
@pytest.mark.parametrize("graph", [{}, {"copies": 0.6, "constants": 0.0}])
def test_held_out_problems_are_spread_over_operations_and_modes(split_by, graph):
    """Few operations have few structures, and hundreds of problems all the same."""
    held_out = HeldOut(bands={"ID": "2-4"}, contexts=PUBLISHED[:1], modes=MODES, problems=61)
    data = PromptDataModule(
        [Component("2", PUBLISHED[:1])], "published", graph=GraphSpec(split_by=split_by, **graph), held_out=held_out
    )
    cells = Counter(example.cell for example in data.held_out_examples("test", 61))
    assert len(cells) == 3 * 2
    assert {*cells.values()} == {10, 11}
    assert data.held_out_examples("test", 61) is data.held_out_examples("test", 61)  # drawn once


def test_an_unknown_way_to_split_is_refused():
    with pytest.raises(ValueError, match=r"split_by='names' is unknown; choose from \['problem', 'needed'\]"):
        GraphSpec(split_by="names")
